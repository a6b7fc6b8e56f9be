-- Idle workers, and who may take which tasks.
--
-- Of those who are idle one is told when the next delayed task will be ready; who is not idle any more hands that on.

local records = require "task_records"
local tables = require "tables"

local sub = string.sub
local timer_is_free = false

-- Whether somebody who is able to do `tags` (a set) may take a lane's tasks: its queue's own instance, or a thief.
local function may_take(lane, tags, steals)
  if steals and sub(lane, 1, 1) ~= "s" then return false end
  local past = string.find(lane, ",,", 1, true) or 0 -- the account follows
  for tag in string.gmatch(sub(lane, 2, past - 1), "[^,]+") do
    if not tags[tag] then return false end
  end
  return true
end

local function set_of(list)
  local set = {}
  for _, each in ipairs(list) do set[each] = true end
  return set
end

-- An idle worker, or nil. `timed`: it was told when a delayed task will be ready.
local function idle(incarnation)
  local value = tables.get(tables.numbered("w", incarnation))
  if not value then return nil end
  local seq, steals, tags, timed = unpack(cmsgpack.unpack(value))
  return { incarnation = incarnation, seq = seq, steals = steals, tags = tags, timed = timed }
end

local function keep(worker)
  local value = cmsgpack.pack({ worker.seq, worker.steals, worker.tags, worker.timed })
  tables.put(tables.numbered("w", worker.incarnation), value)
end

-- Wake an incarnation from now on; what it was to see to before, it still is.
local function list(op)
  local before = idle(op.incarnation)
  local timed = before and before.timed or false
  keep({ incarnation = op.incarnation, seq = op.seq, steals = op.steal, tags = op.tags, timed = timed })
end

-- Wake an incarnation no more; what it was to see to at its time is another's then.
local function unlist(incarnation)
  local worker, key = idle(incarnation), tables.numbered("w", incarnation)
  if not worker then return end
  tables.unindex(key)
  tables.delete(key)
  timer_is_free = timer_is_free or worker.timed
end

local function idle_workers()
  local keys = tables.scan("w")
  tables.fetch(keys)
  for place, key in ipairs(keys) do
    keys[place] = idle(tables.number_at(key, 2))
    keys[place].able = set_of(keys[place].tags)
  end
  return keys
end

-- At most so many of the workers that would take a lane's tasks, its queue's own first.
local function fitting(workers, line, most)
  local queue, lane = records.names_of(line)
  local known = tables.get(tables.named("j", queue))
  local own = known and tables.number_at(known, 1)
  local fit = {}
  for _, worker in ipairs(workers) do
    local is_own = worker.incarnation == own
    local steals = queue ~= "" and not is_own
    if not worker.woken and (worker.steals or not steals) and may_take(lane, worker.able, steals) then
      table.insert(fit, is_own and 1 or #fit + 1, worker)
    end
  end
  for place = #fit, most + 1, -1 do fit[place] = nil end
  return fit
end

-- When the next delayed task will be ready is to be told to somebody else. `task_of` gives a task by its id.
local function pass_the_timer_on(later_lines, later, task_of)
  timer_is_free = false
  local key = tables.first("\137")
  local task = key and task_of(sub(key, 18))
  if not task or later[task.line] then return end
  table.insert(later_lines, task.line)
  later[task.line] = task.run_at
end

-- The wakes for what happened to lanes, by line: one idle worker for each task that became ready, its queue's own
-- first; for the first of a lane that will be, at a wall time, one that stays idle until then.
local function wake(fresh_lines, fresh, later_lines, later, task_of)
  local wakes, at = {}, tables.at
  if #fresh_lines == 0 and #later_lines == 0 and not timer_is_free then return wakes end
  local workers = idle_workers()
  for _, line in ipairs(fresh_lines) do
    for _, worker in ipairs(fitting(workers, line, fresh[line])) do
      worker.woken = true
      unlist(worker.incarnation)
      table.insert(wakes, { incarnation = worker.incarnation, seq = worker.seq, at = at.mono })
    end
  end
  if timer_is_free then pass_the_timer_on(later_lines, later, task_of) end
  for _, line in ipairs(later_lines) do
    for _, worker in ipairs(fitting(workers, line, 1)) do
      local when = at.mono + math.max(0, later[line] - at.wall)
      table.insert(wakes, { incarnation = worker.incarnation, seq = worker.seq, at = when })
      worker.timed = true
      keep(worker)
    end
  end
  return wakes
end

return { may_take = may_take, set_of = set_of, idle = idle, list = list, unlist = unlist, wake = wake }
