-- CancelTask: cancel a task: at once where it is queued; the owner of a running one is woken and asked.
--
-- Keys: the task with its claim, payload and result, and the lists in which it stands; who waits for its end.

local tables = require "tables"

local name = cmsgpack.unpack(ARGV[1])[1]
tables.open(tables.named("m", name))

local desk = require "task_desk"
local records = require "task_records"
local views = require "task_views"

local task, claim = desk.task(name), desk.claim(name)
if task and task.phase == records.OPEN then
  task.cancel = true
  if claim then
    claim.cancel = true
    desk.keep_claim(name, claim)
    table.insert(desk.wakes, { incarnation = claim.incarnation, seq = claim.seq, at = tables.at.mono })
  else
    desk.finish(task, records.CANCELLED)
  end
  desk.keep(task)
  tables.keep()
  desk.close()
end
return views.answer(name)
