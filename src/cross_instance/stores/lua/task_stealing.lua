-- Stealing: an idle instance takes over queued tasks of another (as rules/stealing.py; its rules 1 to 4 hold here).

local claimers = require "task_claimers"
local desk = require "task_desk"
local lapses = require "lapses"
local lines = require "task_lines"
local records = require "task_records"
local tables = require "tables"
local workers = require "task_workers"

local UNKNOWN = SECOND -- how long a task is taken to last while none of its kind was done
local min, max, floor = math.min, math.max, math.floor

-- How many tasks of a lane nobody has claimed, by rank.
local function queued_by_rank(line)
  local there, taken, queued = desk.lane(line).ranks, desk.taken_of(line).ranks, {}
  for rank = 1, records.RANKS do queued[rank] = max(0, there[rank] - taken[rank]) end
  return queued
end

local function queued(line)
  return records.sum(queued_by_rank(line))
end

-- The µs that they are expected to take; `durations` keeps what was read of kinds.
local function backlog(line, durations)
  local total, taken = 0, desk.taken_of(line).kinds
  for kind, there in pairs(desk.lane(line).kinds) do
    if not durations[kind] then
      local mean, done = desk.duration(kind)
      durations[kind] = done > 0 and max(1, mean) or UNKNOWN
    end
    local tasks = max(0, there - (taken[kind] or 0))
    total = total + (tasks > floor(FOREVER / durations[kind]) and FOREVER or tasks * durations[kind])
    total = min(total, FOREVER)
  end
  return total
end

-- The queues of other instances that have something for a thief, the largest backlog first.
local function victims(own, tags)
  local found, by_queue, durations = {}, {}, {}
  for _, line in ipairs(desk.lines()) do
    local queue, lane = records.names_of(line)
    local tasks = queue ~= "" and queue ~= own and workers.may_take(lane, tags, true) and queued(line) or 0
    if tasks > 0 then
      local victim = by_queue[queue]
      if not victim then
        victim = { queue = queue, lines = {}, tasks = 0, backlog = 0 }
        by_queue[queue] = victim
        table.insert(found, victim)
      end
      table.insert(victim.lines, line)
      victim.tasks = victim.tasks + tasks
      victim.backlog = min(victim.backlog + backlog(line, durations), FOREVER)
    end
  end
  table.sort(found, function(one, other)
    if one.backlog ~= other.backlog then return one.backlog > other.backlog end
    return tables.before(one.queue, other.queue)
  end)
  return found
end

-- Whether a live instance claims for itself.
local function serves(queue)
  local incarnation = tables.get(tables.named("j", queue))
  local value = incarnation and tables.get(tables.numbered("v", tables.number_at(incarnation, 1)))
  return value and not claimers.has_retired(value)
end

-- Whether others wait for a permit of the account that a lane's first task spends from, or it is paused.
local function is_held_back(line)
  local head = lines.head_of(line)
  local task = head and desk.task(head.name)
  local node = task and task.account ~= "" and tables.get(tables.named("n", task.account))
  if not node then return false end
  local waiting, paused_until = struct.unpack("<dd", node, 3 + 8 * (N_WAITING - 1)) -- one after the other
  return waiting > 0 or paused_until > tables.at.mono
end

local function note(thief, victim, tasks)
  local key = tables.named("s", thief) .. victim .. "\0"
  local value, before = tables.get(key), 0
  if value then
    before = struct.unpack("<d", value)
  else
    desk.index(key)
    desk.index(lapses.key(key, tables.at.mono + lapses.THEFT_KEPT))
  end
  tables.put(key, struct.pack("<dd", before + tasks, tables.at.wall))
end

-- Claim tasks of the instance with the largest backlog; its id and what was taken, or "" and an empty list.
local function steal(op, own, tags)
  local all = victims(own, tags)
  if #all > 0 then note(own, "", 1) end
  for _, victim in ipairs(all) do
    if not lines.is_paused(victim.queue) and (victim.backlog >= op.min_gain or not serves(victim.queue)) then
      local open = {}
      for _, line in ipairs(victim.lines) do
        if not is_held_back(line) then table.insert(open, line) end
      end
      local found = lines.first_of(open, op, own, min(op.most, floor((victim.tasks + 1) / 2)))
      if #found > 0 then
        note(own, victim.queue, #found)
        return victim.queue, found
      end
    end
  end
  return "", {}
end

return { queued_by_rank = queued_by_rank, queued = queued, backlog = backlog, steal = steal }
