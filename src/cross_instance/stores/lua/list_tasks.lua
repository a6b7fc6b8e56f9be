-- ListTasks: list tasks page by page, without payloads and results.
--
-- Keys: a list of tasks, and those in it with their claims.

local tables = require "tables"

local LOOKED_AT = 1000 -- how many tasks one page looks at, matching or not
local AT_ONCE = 100 -- how many are read together
local PHASES = { queued = 0, done = 1, failed = 2, dead = 3, cancelled = 4 }

-- `nil` in a field of these is false.
local state, queue, kind, after, most = unpack(cmsgpack.unpack(ARGV[1]))
tables.open()

local desk = require "task_desk"
local views = require "task_views"

local cursors = require "task_cursors"

local prefix = state == "running" and "o" or "\133" .. (state and string.char(PHASES[state]) or "")
local size = state == "running" and 25 or 10 -- of a key without the id

local function matches(task, claim)
  if queue and task.queue ~= queue or kind and task.kind ~= kind then return false end
  return not state or state == views.state_of(task, claim)
end

local keys, shown, last = cursors.scan(prefix, size, LOOKED_AT, after), {}, 0
while last < #keys and #shown < most do
  if last % AT_ONCE == 0 then
    local names = {}
    for place = last + 1, math.min(last + AT_ONCE, #keys) do table.insert(names, string.sub(keys[place], size + 1)) end
    desk.fetch("\130", names)
    desk.fetch("m", names)
  end
  last = last + 1
  local name = string.sub(keys[last], size + 1)
  local task, claim = desk.task(name), desk.claim(name)
  if matches(task, claim) then table.insert(shown, views.info(task, claim, "", "")) end
end
local is_end = last == #keys and #keys < LOOKED_AT and #shown < most
local fields = cmsgpack.pack("after", is_end and "" or cursors.told(keys[last], size), "tasks") .. views.list(shown)
return desk.answer("TaskPage", 2, fields)
