-- Requeue: send a failed, dead or cancelled task back to its queue, with all its retries.
--
-- Keys: the task with its payload and result, and the lists in which it stands; those that are due; idle workers.

local tables = require "tables"

local name = cmsgpack.unpack(ARGV[1])[1]
tables.open()

local desk = require "task_desk"
local records = require "task_records"
local time = require "task_time"
local views = require "task_views"

local task = desk.task(name)
if task and task.phase ~= records.OPEN and task.phase ~= records.DONE then
  time.make_ready(time.due())
  desk.reopen(task)
  task.run_at = tables.at.wall
  desk.keep(task)
  tables.keep()
  desk.close()
end
return views.answer(name)
