-- The records that one operation on tasks works on, and the few moves that tasks make between them
-- (as rules/task_desk.py).
--
-- 1. A task is ready as long as it has a place in a lane's list. A claim only hides that place.
-- 2. Places rise for ever. All of a list up to its cursor are claimed or returned; all beyond it are neither.
-- 3. A script is cut nowhere, so what a claim tells always fits the place that it was made for.
-- 4. `wakes` go into the result, in which the incarnation `own` finds those that are for itself.

local answer = require "answer"
local order = require "task_order"
local records = require "task_records"
local tables = require "tables"
local wakes = require "wakes"
local workers = require "task_workers"

local EPOCHS_AT_ONCE = 4096 -- epochs are reserved with the tasks in blocks, so that they rise though the rest is lost
local USUAL = 8 -- a mean duration forgets: beyond so many tasks each new one counts for an eighth
local DAY = 86400 * SECOND
local pack, sub, min, max, floor = struct.pack, string.sub, math.min, math.max, math.floor
local index, unindex, scan = order.index, order.unindex, order.scan

local desk
local at = tables.at

local lanes, taken, lanes_changed, taken_changed = {}, {}, {}, {} -- by line
local totals, totals_changed, tended, stays
local fresh, fresh_lines, later, later_lines = {}, {}, {}, {} -- by line, and the lines in the order in which they came

-- --- looking -------------------------------------------------------------------------------------------------------

-- A live instance's id, or nil.
local function instance_id(incarnation)
  local value = tables.get(tables.numbered("i", incarnation))
  return value and cmsgpack.unpack(value).instance_id
end

-- A task that is kept, or nil.
local function task(name)
  local value = tables.get(tables.named("\130", name))
  return value and records.read_task(name, value) or nil
end

-- Who runs a task, or nil.
local function claim(name)
  local value = tables.get(tables.named("m", name))
  return value and records.read_claim(value) or nil
end

-- Read several records of tasks together.
local function fetch(letter, names)
  local keys = {}
  for place, name in ipairs(names) do keys[place] = tables.named(letter, name) end
  tables.fetch(keys)
end

-- How many tasks stand in a lane's lists.
local function lane(line)
  if not lanes[line] then lanes[line] = records.read_counts(tables.get("\135" .. line)) end
  return lanes[line]
end

-- How many of them are claimed.
local function taken_of(line)
  if not taken[line] then taken[line] = records.read_counts(tables.get("u" .. line)) end
  return taken[line]
end

-- How many tasks of a lane nobody has claimed, by rank.
local function queued_by_rank(line)
  local there, claimed, queued = lane(line).ranks, taken_of(line).ranks, {}
  for rank = 1, records.RANKS do queued[rank] = max(0, there[rank] - claimed[rank]) end
  return queued
end

local function queued(line)
  return records.sum(queued_by_rank(line))
end

-- The lines of the lanes with tasks in them, of one queue or of all.
local function lines(queue)
  local found = scan(queue and tables.named("\135", queue) or "\135")
  for place, key in ipairs(found) do found[place] = sub(key, 2) end
  return found
end

-- (mean, done): how long the tasks of a kind take.
local function duration(kind)
  local value = tables.get(tables.named("\140", kind))
  if not value then return 0, 0 end
  return struct.unpack("<dd", value)
end

-- Whether a task is open or dead: there is no end to the time for which it is kept.
local function must_stay()
  return totals.phases[records.OPEN] + totals.phases[records.DEAD] > 0
end

-- The counts of everything.
local function all()
  if not totals then
    totals = records.read_totals(tables.get("\141"))
    stays = must_stay()
  end
  return totals
end

-- --- the side that stays -------------------------------------------------------------------------------------------

-- A number larger than any before.
local function number()
  totals_changed = true
  all().number = all().number + 1
  return totals.number
end

local function count(phase, by)
  totals_changed = true
  local phases = all().phases
  phases[phase] = phases[phase] + by
end

-- Write a task.
local function keep(task)
  tables.put(tables.named("\130", task.name), records.write_task(task))
end

-- Keep a new task, which is neither ready nor delayed yet.
local function enter(task)
  task.number = number()
  count(records.OPEN, 1)
  index(order.phase_key(records.OPEN, task.number, task.name))
end

local function add_fresh(line, tasks)
  if not fresh[line] then
    table.insert(fresh_lines, line)
    fresh[line] = 0
  end
  fresh[line] = fresh[line] + tasks
end

-- So many tasks of a lane can be taken, and perhaps nobody who can knows of it.
local function announce(line, tasks)
  if tasks == 0 then return end
  add_fresh(line, 0)
  fresh[line] = max(tasks, fresh[line])
end

-- Put a task at the end of its list.
local function ready(task)
  task.place = number()
  index(order.place_key("\134", task.line, task.rank, task.place, task.name))
  records.count(lane(task.line), task.rank, task.kind, 1)
  index("\135" .. task.line)
  lanes_changed[task.line] = true
  add_fresh(task.line, 1)
end

-- Let a task be ready later, at a wall time.
local function delay(task, run_at)
  task.run_at = run_at
  index(order.delayed_key(task))
  all().delayed, totals_changed = all().delayed + 1, true
  if not later[task.line] then table.insert(later_lines, task.line) end
  later[task.line] = min(later[task.line] or run_at, run_at)
end

-- Take a task from those that are delayed.
local function undelay(task)
  unindex(order.delayed_key(task))
  all().delayed, totals_changed = all().delayed - 1, true
end

-- Take a task from where it waits for its turn.
local function unready(task)
  if task.place == 0 then
    undelay(task)
    return
  end
  unindex(order.place_key("\134", task.line, task.rank, task.place, task.name))
  unindex(order.place_key("r", task.line, task.rank, task.place, task.name))
  records.count(lane(task.line), task.rank, task.kind, -1)
  lanes_changed[task.line] = true
  task.place = 0
end

local function move(task, phase)
  count(task.phase, -1)
  count(phase, 1)
  unindex(order.phase_key(task.phase, task.number, task.name))
  index(order.phase_key(phase, task.number, task.name))
  task.phase = phase
end

-- Take an open task from its queue for good, or until it is sent back.
local function finish(task, phase)
  unready(task)
  move(task, phase)
  task.finished_at = at.wall
  if phase ~= records.DEAD then index(order.expires_key(task)) end
  for _, key in ipairs(tables.scan(tables.named("a", task.name))) do
    local incarnation, seq = struct.unpack(">I8I8", key, #key - 15)
    table.insert(desk.wakes, { incarnation = incarnation, seq = seq, at = at.mono })
    unindex(key)
    tables.delete(key)
  end
end

-- Put a task that is over at the end of its list.
local function reopen(task)
  if task.phase ~= records.DEAD then unindex(order.expires_key(task)) end
  tables.delete(tables.named("\132", task.name))
  move(task, records.OPEN)
  task.failures, task.deaths, task.finished_at, task.cancel = 0, 0, 0, false
  ready(task)
end

-- Remove a task that is over.
local function forget(task)
  count(task.phase, -1)
  if task.phase ~= records.DEAD then unindex(order.expires_key(task)) end
  unindex(order.phase_key(task.phase, task.number, task.name))
  for _, letter in ipairs({ "\130", "\131", "\132" }) do tables.delete(tables.named(letter, task.name)) end
  if task.key ~= "" then tables.delete(tables.named("\138", task.key)) end
end

-- Bring a kind's mean duration up to date.
local function learn(kind, took)
  local mean, done = duration(kind)
  local weight, key = min(done, USUAL - 1), tables.named("\140", kind)
  mean = floor((mean * weight + min(max(took, 0), DAY)) / (weight + 1))
  if done == 0 then index(key) end
  tables.put(key, pack("<dd", mean, done + 1))
end

-- --- claims --------------------------------------------------------------------------------------------------------

local function next_epoch()
  local value, epoch, last = tables.get("e"), 0, 0
  if value then epoch, last = struct.unpack(">I8I8", value) end
  if epoch == last then
    local reserved = tables.get("\142")
    epoch = reserved and tables.number_at(reserved, 1) or 1
    last = epoch + EPOCHS_AT_ONCE
    tables.put("\142", tables.number(last))
  end
  tables.put("e", pack(">I8I8", epoch + 1, last))
  return epoch
end

local function keep_claim(name, claim)
  tables.put(tables.named("m", name), records.write_claim(claim))
end

-- Hand a ready task to its owner: an instance, one of its claims, the turn in it.
local function take(task, owner, id, turn)
  local claim = {
    epoch = next_epoch(), incarnation = owner.incarnation, seq = owner.seq, turn = turn, since = at.mono,
    began = at.wall, place = task.place, rank = task.rank, cancel = false, instance_id = id, queue = task.queue,
    lane = task.lane, kind = task.kind, progress = "", line = task.line,
  }
  keep_claim(task.name, claim)
  index(order.owned_key(claim, task.name))
  unindex(order.place_key("r", task.line, task.rank, task.place, task.name))
  local taken = taken_of(task.line)
  records.count(taken, task.rank, task.kind, 1)
  taken.cursors[task.rank + 1] = max(taken.cursors[task.rank + 1], task.place)
  taken_changed[task.line] = true
  return claim
end

-- End a claim; `back`: its place is free again.
local function drop(name, claim, back)
  tables.delete(tables.named("m", name))
  unindex(order.owned_key(claim, name))
  records.count(taken_of(claim.line), claim.rank, claim.kind, -1)
  taken_changed[claim.line] = true
  if back then
    index(order.place_key("r", claim.line, claim.rank, claim.place, name))
    add_fresh(claim.line, 1)
  end
end

-- The ids of what an incarnation runs, in the order in which it claimed it; with `seq`, by that claim.
local function owned(incarnation, seq)
  local names = scan(tables.numbered("o", incarnation) .. (seq and tables.number(seq) or ""))
  for place, key in ipairs(names) do names[place] = sub(key, 26) end
  return names
end

-- --- closing -------------------------------------------------------------------------------------------------------

local function is_empty(counts)
  return records.sum(counts.ranks) == 0
end

local function write_lane(line)
  local there = lane(line)
  if lanes_changed[line] then
    if is_empty(there) then
      unindex("\135" .. line)
      tables.delete("\135" .. line)
    else
      tables.put("\135" .. line, records.write_counts(there))
    end
  end
  if taken_changed[line] or is_empty(there) then
    if is_empty(there) and is_empty(taken_of(line)) then
      tables.delete("u" .. line)
    else
      tables.put("u" .. line, records.write_counts(taken_of(line)))
    end
  end
end

-- Let the pair for tasks stay as long as something in it does.
local function stay()
  all()
  if must_stay() then
    if not stays then
      redis.call("PERSIST", KEYS[3])
      redis.call("PERSIST", KEYS[4])
    end
    return
  end
  local last = redis.call("ZREVRANGEBYLEX", KEYS[4], "(\139\255", "[\139", "LIMIT", 0, 1)[1]
  local left = max(0, last and tables.number_at(last, 2) - at.wall or 0) / 1000 + tables.KEEP
  redis.call("PEXPIRE", KEYS[3], string.format("%.0f", left))
  redis.call("PEXPIRE", KEYS[4], string.format("%.0f", left))
end

-- Something else than a task was added to the pair for tasks.
local function tend()
  tended = true
end

-- Write what was changed, and wake idle workers for what became ready. `refusable`: a server without memory is to
-- refuse it; everything else it is to take.
local function close(refusable)
  for line in pairs(lanes_changed) do write_lane(line) end
  for line in pairs(taken_changed) do
    if not lanes_changed[line] then write_lane(line) end
  end
  if totals_changed then tables.put("\141", records.write_totals(totals)) end
  order.flush(refusable)
  for _, wake in ipairs(workers.wake(fresh_lines, fresh, later_lines, later, task)) do
    table.insert(desk.wakes, wake)
  end
  tables.close()
  if totals_changed or tended then stay() end
  lanes, taken, lanes_changed, taken_changed, totals, totals_changed, tended = {}, {}, {}, {}, nil, false, false
  fresh, fresh_lines, later, later_lines = {}, {}, {}, {}
end

-- The result: `count` fields as their MessagePack. What was changed is written first.
local function answered(name, count, fields)
  if #desk.wakes > 0 then count, fields = count + 1, fields .. cmsgpack.pack("wakes", desk.wakes) end
  local reply = answer.packed(name, count, fields)
  wakes.publish(desk.wakes, desk.own)
  return reply
end

desk = {
  wakes = {}, own = 0, index = index, unindex = unindex, scan = scan, place_prefix = order.place_prefix,
  instance_id = instance_id, task = task, claim = claim, fetch = fetch, lane = lane, taken_of = taken_of,
  queued_by_rank = queued_by_rank, queued = queued, lines = lines, duration = duration, all = all, keep = keep,
  enter = enter, ready = ready, delay = delay, undelay = undelay, unready = unready, finish = finish, reopen = reopen,
  forget = forget, learn = learn, keep_claim = keep_claim, take = take, drop = drop, owned = owned,
  announce = announce, tend = tend, close = close, answer = answered,
}
return desk
