-- SetQueue: pause a queue, or let it go on: nobody takes tasks from a paused one, its owner included.
--
-- Keys: the pause, the queue's lanes with their claims; idle workers.

local tables = require "tables"

local queue, is_paused = unpack(cmsgpack.unpack(ARGV[1]))
tables.open()

local desk = require "task_desk"
local lines = require "task_lines"

local key = tables.named("\136", queue)
if is_paused then
  tables.put(key, "")
  desk.index(key)
  desk.tend()
elseif lines.is_paused(queue) then
  tables.delete(key)
  desk.unindex(key)
  desk.tend()
  for _, line in ipairs(desk.lines(queue)) do desk.announce(line, desk.queued(line)) end
end
tables.keep()
desk.close()
return desk.answer("QueueSet", 1, cmsgpack.pack("paused", is_paused))
