-- What the task queue keeps, and under which keys (as rules/task_records.py). A task's id stands behind the keys of
-- what is only found by order, so that those need no record.
--
-- In the pair for tasks (KEYS[3] and KEYS[4]):
--
--      \130 task       \131 its payload   \132 its result    \138 the task of an idempotency key
--      \133 phase, number                 all tasks of a phase, in the order of submission
--      \134 queue, lane, rank, place      what is ready and not over, also while it runs, in the order of its turn
--      \137 when, number                  not ready yet      \139 when, number    over, by the end of the retention
--      \135 queue, lane                   how many of its tasks are ready, by rank and kind
--      \136 queue      a pause            \140 kind          its mean duration
--      \141            counts             \142               the end of the epochs that are reserved
--
-- In the pair of everything else:
--
--      m task          who runs it        o incarnation, seq, turn    what an incarnation claimed
--      u queue, lane   how many of its ready tasks are claimed, and up to which place each rank was handed out
--      r queue, lane, rank, place         places before that which are free again
--      w incarnation   how to wake it     v incarnation      its last seq that got something; has it retired
--      a task, incarnation, seq           who waits for its end, until when
--      s thief, victim thefts             e                  the next epoch
--
-- 1. The pair for tasks stays as long as a task is open or dead, and until a week after the last retention of the
--    others. The other one goes when nobody has been there for a week: then what was running is simply ready again.
-- 2. A lane is the tasks of a queue that the same instances may take, and that the same account holds back; its name is
--    that of the queue and its own ("s" or "k": may it be stolen; the tags asked for; behind two commas the account),
--    each with a zero byte behind it.

local pack, unpack_from, sub = struct.pack, struct.unpack, string.sub

local OPEN, DONE, FAILED, DEAD, CANCELLED = 0, 1, 2, 3, 4
local RANKS = 5

-- phase, cancel, number of attempts kept, the last one's outcome and epoch; number, submitted_at, run_at, place,
-- failures, deaths, finished_at. What was submitted follows; then the attempts, each with its length.
local STANDING = "<BBBBdddddddd"
local STANDING_SIZE = struct.size(STANDING)

-- rank, retries, max_deaths, backoff, max_backoff, retention; queue, lane, kind, key, account; how many fields the
-- description has, and their MessagePack, which is passed on as it came.
local SPEC = "<BdddddI4c0I4c0I4c0I4c0I4c0HI4c0"

-- epoch, incarnation; seq, turn, since, began, place, rank, cancel; instance_id, queue, lane, kind, progress.
local CLAIM = ">I8I8<dddddBBI4c0I4c0I4c0I4c0I4c0"

local function line_of(queue, lane)
  return queue .. "\0" .. lane .. "\0"
end

-- (queue, lane) of a line's name.
local function names_of(line)
  return string.match(line, "^(%Z*)%z(%Z*)%z")
end

-- --- tasks ---------------------------------------------------------------------------------------------------------

-- A task from the figures of STANDING and SPEC; what was submitted starts at a byte of `value`.
local function task_of(
  name, value, start, phase, cancel, attempts, last_outcome, last_epoch, number, submitted_at, run_at, place, failures,
  deaths, finished_at, rank, retries, max_deaths, backoff, max_backoff, retention, queue, lane, kind, key, account,
  fields, description, past
)
  return {
    name = name, phase = phase, cancel = cancel == 1, attempts = attempts, last_outcome = last_outcome,
    last_epoch = last_epoch, number = number, submitted_at = submitted_at, run_at = run_at, place = place,
    failures = failures, deaths = deaths, finished_at = finished_at, rank = rank, retries = retries,
    max_deaths = max_deaths, backoff = backoff, max_backoff = max_backoff, retention = retention, queue = queue,
    lane = lane, kind = kind, key = key, account = account, fields = fields, description = description,
    line = line_of(queue, lane), spec = sub(value, start, past - 1), past = sub(value, past),
  }
end

-- A task; its attempts are left as they are stored.
local function read_task(name, value)
  return task_of(name, value, STANDING_SIZE + 1, unpack_from(STANDING .. SPEC, value))
end

-- A task as it is submitted: nothing has been counted yet.
local function new_task(name, spec, now)
  return task_of(name, spec, 1, OPEN, 0, 0, 0, 0, 0, now, now, 0, 0, 0, 0, unpack_from(SPEC, spec))
end

local function write_task(task)
  return pack(
    STANDING, task.phase, task.cancel and 1 or 0, task.attempts, task.last_outcome, task.last_epoch, task.number,
    task.submitted_at, task.run_at, task.place, task.failures, task.deaths, task.finished_at
  ) .. task.spec .. task.past
end

-- The attempts that are kept, each as its MessagePack.
local function attempts_of(task)
  local attempts, place = {}, 1
  for number = 1, task.attempts do attempts[number], place = unpack_from("<I4c0", task.past, place) end
  return attempts
end

-- Add an attempt; of more than `most` the oldest is forgotten.
local function add_attempt(task, attempt, most)
  if task.attempts == most then
    task.past = sub(task.past, 5 + unpack_from("<I4", task.past))
  else
    task.attempts = task.attempts + 1
  end
  task.past = task.past .. pack("<I4c0", #attempt, attempt)
end

-- --- claims --------------------------------------------------------------------------------------------------------

local function read_claim(value)
  local claim, cancel = {}, nil
  claim.epoch, claim.incarnation, claim.seq, claim.turn, claim.since, claim.began, claim.place, claim.rank, cancel,
    claim.instance_id, claim.queue, claim.lane, claim.kind, claim.progress = unpack_from(CLAIM, value)
  claim.cancel, claim.line = cancel == 1, line_of(claim.queue, claim.lane)
  return claim
end

local function write_claim(claim)
  local id, queue, lane, kind, progress = claim.instance_id, claim.queue, claim.lane, claim.kind, claim.progress
  return pack(
    CLAIM, claim.epoch, claim.incarnation, claim.seq, claim.turn, claim.since, claim.began, claim.place, claim.rank,
    claim.cancel and 1 or 0, #id, id, #queue, queue, #lane, lane, #kind, kind, #progress, progress
  )
end

-- --- counts --------------------------------------------------------------------------------------------------------

-- How many tasks of a lane, by rank (0 to 4) and kind; of those claimed also `cursors`, by rank.
local function read_counts(value)
  if not value then return { ranks = { 0, 0, 0, 0, 0 }, kinds = {}, cursors = { 0, 0, 0, 0, 0 } } end
  local ranks, kinds, cursors = unpack(cmsgpack.unpack(value))
  return { ranks = ranks, kinds = kinds, cursors = cursors }
end

local function write_counts(counts)
  return cmsgpack.pack({ counts.ranks, counts.kinds, counts.cursors })
end

local function count(counts, rank, kind, by)
  counts.ranks[rank + 1] = counts.ranks[rank + 1] + by
  local left = (counts.kinds[kind] or 0) + by
  counts.kinds[kind] = left ~= 0 and left or nil
end

local function sum(list)
  local total = 0
  for _, each in ipairs(list) do total = total + each end
  return total
end

-- The last number given out, how many tasks are in each phase, how many are delayed.
local TOTALS = "<ddddddd"

local function read_totals(value)
  local totals = { phases = {} }
  local phases = totals.phases
  if not value then value = pack(TOTALS, 0, 0, 0, 0, 0, 0, 0) end
  totals.number, phases[OPEN], phases[DONE], phases[FAILED], phases[DEAD], phases[CANCELLED], totals.delayed =
    unpack_from(TOTALS, value)
  return totals
end

local function write_totals(totals)
  local phases = totals.phases
  return pack(
    TOTALS, totals.number, phases[OPEN], phases[DONE], phases[FAILED], phases[DEAD], phases[CANCELLED], totals.delayed
  )
end

return {
  OPEN = OPEN, DONE = DONE, FAILED = FAILED, DEAD = DEAD, CANCELLED = CANCELLED, RANKS = RANKS,
  OUTCOMES = { "done", "retry", "failed", "released", "cancelled", "died" },
  OUTCOME = { done = 1, retry = 2, failed = 3, released = 4, cancelled = 5, died = 6 },
  names_of = names_of, new_task = new_task, read_task = read_task, write_task = write_task, attempts_of = attempts_of,
  add_attempt = add_attempt, read_claim = read_claim, write_claim = write_claim, read_counts = read_counts,
  write_counts = write_counts, count = count, sum = sum, read_totals = read_totals, write_totals = write_totals,
}
