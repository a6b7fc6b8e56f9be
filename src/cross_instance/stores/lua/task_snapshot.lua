-- TaskSnapshot: all queues with tasks or a pause, kinds and thefts, by name. Nothing is changed.
--
-- Keys: pauses, lanes with their claims, durations, thefts and counts.

local tables = require "tables"

tables.open()

local desk = require "task_desk"
local lines = require "task_lines"
local records = require "task_records"
local stealing = require "task_stealing"

-- The names of all queues, in order, each with the lines of its lanes.
local function queues()
  local names, lanes = {}, {}
  local function lanes_of(queue)
    if not lanes[queue] then
      lanes[queue] = {}
      table.insert(names, queue)
    end
    return lanes[queue]
  end
  for _, key in ipairs(tables.scan("\136")) do lanes_of(string.sub(key, 2, -2)) end
  for _, line in ipairs(desk.lines()) do table.insert(lanes_of((records.names_of(line))), line) end
  table.sort(names, tables.before)
  return names, lanes
end

local function shown_queue(queue, lanes)
  local state = {
    queue = queue, paused = lines.is_paused(queue), queued = { 0, 0, 0, 0, 0 }, running = 0, backlog = 0, stealable = 0,
    stealable_tasks = 0,
  }
  local durations = {}
  for _, line in ipairs(lanes) do
    local _, lane = records.names_of(line)
    local time = stealing.backlog(line, durations)
    for rank, tasks in ipairs(desk.queued_by_rank(line)) do state.queued[rank] = state.queued[rank] + tasks end
    state.running = state.running + records.sum(desk.taken_of(line).ranks)
    state.backlog = math.min(state.backlog + time, FOREVER)
    if queue ~= "" and string.sub(lane, 1, 1) == "s" then
      state.stealable = math.min(state.stealable + time, FOREVER)
      state.stealable_tasks = state.stealable_tasks + desk.queued(line)
    end
  end
  return state
end

local function shown_kinds()
  local kinds = tables.scan("\140")
  tables.fetch(kinds)
  for place, key in ipairs(kinds) do
    local kind = string.sub(key, 2, -2)
    local mean, done = desk.duration(kind)
    kinds[place] = { kind = kind, mean = mean, done = done }
  end
  return kinds
end

local function shown_thefts()
  local thefts = tables.scan("s")
  tables.fetch(thefts)
  for place, key in ipairs(thefts) do
    local thief, victim = records.names_of(string.sub(key, 2))
    local tasks, last_at = struct.unpack("<dd", tables.get(key))
    thefts[place] = { thief = thief, victim = victim, tasks = tasks, last_at = last_at }
  end
  return thefts
end

local function counted(running)
  local phases, states = desk.all().phases, {}
  local counts = {
    { "queued", phases[records.OPEN] - running }, { "running", running }, { "done", phases[records.DONE] },
    { "failed", phases[records.FAILED] }, { "dead", phases[records.DEAD] },
    { "cancelled", phases[records.CANCELLED] },
  }
  for _, state in ipairs(counts) do
    if state[2] ~= 0 then table.insert(states, state) end
  end
  return states
end

local names, lanes = queues()
local shown, running = {}, 0
for place, queue in ipairs(names) do
  shown[place] = shown_queue(queue, lanes[queue])
  running = running + shown[place].running
end
return desk.answer("TaskWorld", 5, cmsgpack.pack(
  "queues", shown, "kinds", shown_kinds(), "steals", shown_thefts(), "states", counted(running), "delayed",
  desk.all().delayed
))
