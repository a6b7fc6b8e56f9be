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

-- The µs that a lane's tasks that nobody has claimed are expected to take; `durations` keeps what was read of kinds.
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

-- Whether others wait for a permit of the account that a lane's tasks spend from, or it is paused.
local function is_held_back(lane)
  local account = string.match(lane, "^.-,,(.*)$")
  local node = account and tables.get(tables.named("n", account))
  if not node then return false end
  local waiting, paused_until = struct.unpack("<dd", node, 3 + 8 * (N_WAITING - 1)) -- one after the other
  return waiting > 0 or paused_until > tables.at.mono
end

-- How many tasks of a lane a thief who is able to do `tags` may take now.
local function open_to(line, own, tags)
  local queue, lane = records.names_of(line)
  local is_closed = queue == "" or queue == own or not workers.may_take(lane, tags, true) or is_held_back(lane)
  return is_closed and 0 or desk.queued(line), queue
end

-- The queues of other instances that have something for a thief, the largest backlog first.
local function victims(own, tags)
  local found, by_queue, durations = {}, {}, {}
  for _, line in ipairs(desk.lines()) do
    local tasks, queue = open_to(line, own, tags)
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
      local found = lines.first_of(victim.lines, op, own, min(op.most, floor((victim.tasks + 1) / 2)))
      if #found > 0 then
        note(own, victim.queue, #found)
        return victim.queue, found
      end
    end
  end
  return "", {}
end

return { backlog = backlog, steal = steal }
