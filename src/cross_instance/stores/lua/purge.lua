-- Purge: forget tasks that are over: those named, or those of one such state that ended before a wall time.
--
-- Keys: the tasks with all that is kept of them; a list of tasks; those whose retention is over.

local tables = require "tables"

local PHASES = { done = 1, failed = 2, dead = 3, cancelled = 4 }

local names, state, before, after, most = unpack(cmsgpack.unpack(ARGV[1]))
tables.open()

local cursors = require "task_cursors"
local desk = require "task_desk"
local records = require "task_records"
local time = require "task_time"

local SIZE = 10 -- of a key without the id
local purged, cursor = {}, ""

local function forget(task)
  desk.forget(task)
  table.insert(purged, task.name)
end

local function purge_state()
  local keys, found = cursors.scan("\133" .. string.char(PHASES[state]), SIZE, most, after), {}
  for place, key in ipairs(keys) do found[place] = string.sub(key, SIZE + 1) end
  desk.fetch("\130", found)
  for _, name in ipairs(found) do
    local task = desk.task(name)
    if task.finished_at < before then forget(task) end
  end
  if #keys == most then cursor = cursors.told(keys[most], SIZE) end
end

time.forget(time.expired(most))
for _, name in ipairs(names) do
  local task = desk.task(name)
  if task and task.phase ~= records.OPEN then forget(task) end
end
if state then purge_state() end
tables.keep()
desk.close()
return desk.answer("Purged", 2, cmsgpack.pack("tasks", purged, "after", cursor))
