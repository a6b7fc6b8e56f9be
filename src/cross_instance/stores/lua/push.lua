-- Push: submit tasks, all or none.
--
-- Keys: the tasks, by id and by idempotency key, and the lists in which they stand; the first that are due, and those
-- whose retention is over; idle workers.
--
-- 1. A task that is there already, by its id or its key, is the one that is pushed: nothing is added.
-- 2. A server without memory refuses it, and nothing has changed.

local tables = require "tables"

tables.open()

local desk = require "task_desk"
local records = require "task_records"
local time = require "task_time"

local NEW = "<ddI4c0I4c0I4c0" -- run_at, delay; id, description, payload

-- The tasks as they were sent.
local function sent()
  local list, count, place = {}, struct.unpack("<I4", ARGV[1])
  for number = 1, count do
    local run_at, delay, name, spec, payload
    run_at, delay, name, spec, payload, place = struct.unpack(NEW, ARGV[1], place)
    local task = records.new_task(name, spec, tables.at.wall)
    list[number] = { task = task, run_at = math.max(run_at, task.submitted_at + delay), payload = payload }
  end
  return list
end

local function fetch_known(list)
  local names, keys = {}, {}
  for place, one in ipairs(list) do
    names[place] = one.task.name
    if one.task.key ~= "" then table.insert(keys, one.task.key) end
  end
  desk.fetch("\130", names)
  desk.fetch("\138", keys)
end

-- Whether a task is over, and so is its retention; a dead letter has none.
local function has_expired(task)
  if task.phase == records.OPEN or task.phase == records.DEAD then return false end
  return task.finished_at + task.retention <= tables.at.wall
end

-- The id of the task that this one is already, or false; one whose retention is over does not hold its key.
local function present(task)
  if tables.get(tables.named("\130", task.name)) then return task.name end
  local there = task.key ~= "" and tables.get(tables.named("\138", task.key))
  if not there then return false end
  local holder = desk.task(there)
  if not has_expired(holder) then return there end
  desk.forget(holder)
  return false
end

-- Keep a task.
local function submit(one)
  local task = one.task
  desk.enter(task)
  if one.payload ~= "" then tables.put(tables.named("\131", task.name), one.payload) end
  if task.key ~= "" then tables.put(tables.named("\138", task.key), task.name) end
  if one.run_at <= tables.at.wall then desk.ready(task) else desk.delay(task, one.run_at) end
  desk.keep(task)
end

local list = sent()
fetch_known(list)
local due, expired = time.due(), time.expired(2 * #list)
time.make_ready(due)
time.forget(expired)
local names, known = {}, {}
for place, one in ipairs(list) do
  local there = present(one.task)
  names[place] = there or one.task.name
  if there then
    table.insert(known, there)
  else
    submit(one)
  end
end
tables.keep()
desk.close(true)
return desk.answer("Pushed", 2, cmsgpack.pack("tasks", names, "known", known))
