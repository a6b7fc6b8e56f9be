-- How attempts and tasks end (as rules/task_ends.py).
--
-- 1. Only the owner of the present epoch ends an attempt; sent again, the same end is recognised and changes nothing.
-- 2. A failed attempt is tried again after its backoff while retries are left; then the task has failed.
-- 3. An attempt that its owner's death ended puts the task back in its old place. It costs no retry, but a task with
--    which too many owners died is dead: it is kept aside until it is sent back.
-- 4. A task whose cancellation was asked for does not start anew.
-- 5. A wake does not end with whom it woke: who goes, or works no more, hands it on.

local claimers = require "task_claimers"
local desk = require "task_desk"
local records = require "task_records"
local tables = require "tables"
local workers = require "task_workers"

local ATTEMPTS_KEPT = 10
local MOST_DOUBLINGS = 16 -- a backoff of up to a day, doubled so often, is still below 2^53
local OUTCOME = records.OUTCOME
local PHASE_OF = {
  [OUTCOME.done] = records.DONE, [OUTCOME.retry] = records.FAILED, [OUTCOME.failed] = records.FAILED,
  [OUTCOME.cancelled] = records.CANCELLED,
}
local floor, min = math.floor, math.min

-- The wait before the next attempt, in µs: doubled with each failure, and between a half and the whole of that.
local function backoff(task, draw)
  local whole = min(task.backoff * 2 ^ min(task.failures - 1, MOST_DOUBLINGS), task.max_backoff)
  local half = floor(whole / 2)
  return whole - half + floor(half * floor(draw / 65536) / 65536)
end

local function remember(task, claim, outcome, text)
  local attempt = { claim.epoch, claim.instance_id, claim.began, tables.at.wall, records.OUTCOMES[outcome], text }
  records.add_attempt(task, cmsgpack.pack(attempt), ATTEMPTS_KEPT)
  task.last_outcome, task.last_epoch = outcome, claim.epoch
end

-- What an attempt's end, { outcome, result, text, retry_after (or -1), draw }, means for its task.
local function decide(task, claim, ended)
  local outcome, wall = ended.outcome, tables.at.wall
  remember(task, claim, outcome, ended.text)
  if outcome == OUTCOME.retry or outcome == OUTCOME.failed then task.failures = task.failures + 1 end
  if task.cancel and (outcome == OUTCOME.retry or outcome == OUTCOME.released) then
    desk.finish(task, records.CANCELLED)
  elseif outcome == OUTCOME.retry and task.failures <= task.retries then
    local wait = ended.retry_after >= 0 and ended.retry_after or backoff(task, ended.draw)
    desk.unready(task)
    if wait > 0 then
      desk.delay(task, wall + wait)
    else
      task.run_at = wall
      desk.ready(task)
    end
  else
    desk.finish(task, PHASE_OF[outcome])
    if outcome == OUTCOME.done then desk.learn(claim.kind, tables.at.mono - claim.since) end
    if ended.result ~= "" then tables.put(tables.named("\132", task.name), ended.result) end
  end
  desk.keep(task)
end

local function bury(task, claim, is_dead)
  local outcome = is_dead and OUTCOME.died or OUTCOME.released
  remember(task, claim, outcome, claim.instance_id .. (is_dead and " died" or " left"))
  if is_dead then task.deaths = task.deaths + 1 end
  local is_last = task.cancel or task.deaths >= task.max_deaths
  desk.drop(task.name, claim, not is_last)
  if is_last then desk.finish(task, task.cancel and records.CANCELLED or records.DEAD) end
  desk.keep(task)
end

-- An incarnation takes nothing more: others are told of what it may have been woken for.
local function hand_on(incarnation)
  workers.unlist(incarnation)
  for _, line in ipairs(desk.lines()) do desk.announce(line, desk.queued(line)) end
end

-- Return tasks to where they were taken from.
local function give_back(names, is_dead)
  desk.fetch("m", names)
  desk.fetch("\130", names)
  for _, name in ipairs(names) do
    local task, claim = desk.task(name), desk.claim(name)
    if is_dead or task.cancel then
      bury(task, claim, is_dead)
    else
      desk.drop(name, claim, true)
    end
  end
end

-- Return what an incarnation runs. `is_dead`: it did not leave by itself, and its tasks may be why. The wakes are left
-- at the desk.
local function leave(incarnation, is_dead)
  tables.delete(claimers.key(incarnation))
  give_back(desk.owned(incarnation), is_dead)
  hand_on(incarnation)
  desk.close()
end

-- A claim for no task; `last` is the seq of the last one that got any.
local function retire(op, last)
  local worker = workers.idle(op.incarnation)
  if op.seq < last or worker and op.seq < worker.seq then return end
  give_back(desk.owned(op.incarnation, op.seq), false)
  hand_on(op.incarnation)
  claimers.put(op.incarnation, op.seq, true)
  desk.close()
end

return { decide = decide, leave = leave, retire = retire }
