-- What time does to tasks: they become due, and are forgotten when their retention is over.
--
-- Looking comes apart from doing, so that an operation can look before it writes anything.

local desk = require "task_desk"
local tables = require "tables"

local DUE_AT_ONCE = 100 -- how many tasks that have become due one operation makes ready

-- The ids of the first tasks under a letter whose time has come, at most so many.
local function reached(letter, most)
  local names = {}
  for _, key in ipairs(desk.scan(letter, most)) do
    if tables.number_at(key, 2) > tables.at.wall then break end
    table.insert(names, string.sub(key, 18))
  end
  desk.fetch("\130", names)
  return names
end

-- The tasks that have become due, the longest due first.
local function due()
  return reached("\137", DUE_AT_ONCE)
end

-- Move them to the end of their lists.
local function make_ready(names)
  for _, name in ipairs(names) do
    local task = desk.task(name)
    desk.undelay(task)
    desk.ready(task)
    desk.keep(task)
  end
end

-- The wall time at which the next task is due, or nil.
local function next_due()
  local key = desk.scan("\137", 1)[1]
  return key and tables.number_at(key, 2)
end

-- At most so many tasks whose retention is over.
local function expired(most)
  return reached("\139", most)
end

local function forget(names)
  for _, name in ipairs(names) do desk.forget(desk.task(name)) end
end

return { due = due, make_ready = make_ready, next_due = next_due, expired = expired, forget = forget }
