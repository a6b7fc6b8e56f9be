-- GetTask: look at a task, with payload and result; be woken when it is over.
--
-- Keys: the task, its payload, result and claim; the watcher.

local tables = require "tables"

local name, watcher = unpack(cmsgpack.unpack(ARGV[1]), 1, 2)
tables.open(tables.named("m", name))

local desk = require "task_desk"
local lapses = require "lapses"
local records = require "task_records"
local views = require "task_views"

local task = watcher and desk.task(name)
if task and task.phase == records.OPEN then
  local key = tables.named("a", name) .. tables.number(watcher[1]) .. tables.number(watcher[2])
  local ends = tables.at.mono + lapses.WATCHED
  if not tables.get(key) then
    desk.index(key)
    desk.index(lapses.key(key, ends))
  end
  tables.put(key, tables.number(ends))
  tables.keep()
  desk.close()
end
return views.answer(name)
