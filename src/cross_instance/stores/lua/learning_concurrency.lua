-- A hidden limit of concurrency, told apart from a hidden rate (as rules/learning_concurrency.py; its rules 1 to 8 hold
-- here, and its fields mean the same).

local rates = require "learning_rate"
local values = require "learning_values"

local FEWEST, SAMPLES, CLOSE, TURNED, AT_CAP = 2, 5, 10, 10, 900000
local STRIKES, RETRIES, AGAIN = 3, 4, 3
local STEP, GAIN, FASTER, MOST_GAIN = 2 * SECOND, 30000, 4, 500000
local MOST_PAID, TIMEOUT_CUT = 20, 100000
local MOST_CAP = 2 ^ 31

local WHOLE, PRICE, REST = values.WHOLE, 250, rates.REST
local floor, max, min = math.floor, math.max, math.min
local mark, with = values.mark, values.with

-- Slots of which only this is known.
local function new_slots(known)
  return with({
    cap = 0, samples = {}, tried = 0, highest = 0, gain = 0, step = mark(0, 0), due = mark(0, 0), epoch = -1,
    blurred = { 0, -1 }, proven = 0, strikes = 0, met = -AGAIN, retries = 0,
  }, known)
end

-- Whether a rejection, `accepted` having been accepted before it, answers a retry after one of the cap's own.
local function is_retry(record, accepted)
  return record.cap > 0 and accepted - record.met < AGAIN and record.retries < RETRIES
end

-- Whether a rejection is the known cap's, and so not the rate's.
local function is_own(record, stamp, accepted)
  if record.cap == 0 or accepted - record.met < AGAIN then return is_retry(record, accepted) end
  return stamp.held >= max(1, min(floor(record.cap * AT_CAP / WHOLE), record.proven + 1))
end

local function capped(record, cap, now, stamp)
  return with(record, {
    cap = cap, samples = {}, tried = 0, highest = 0, proven = 0, retries = 0, gain = 0,
    strikes = record.cap > 0 and record.tried == 0 and record.strikes or 0,
    due = mark(now + REST, stamp.serial + PRICE), step = mark(now, stamp.serial),
  })
end

-- A request that started with `stamp.held` others in flight was accepted; rarely news.
local function succeeded(record, stamp)
  if #record.samples == 0 and record.cap == 0 then return record end
  if stamp.at <= record.blurred[2] and (record.cap > 0 or stamp.at >= record.blurred[1]) then return record end
  if stamp.held > record.highest then
    record = with(record, { highest = stamp.held, proven = max(stamp.held, record.proven) })
  end
  if record.cap > 0 and stamp.held >= record.cap then record = with(record, { cap = stamp.held + 1 }) end
  return record
end

-- The samples that must lie together.
local function last_of(record)
  local samples, last = record.samples, {}
  local wanted = record.cap > 0 and SAMPLES or FEWEST + record.strikes
  for place = max(1, #samples + 1 - wanted), #samples do last[#last + 1] = samples[place] end
  return last, #last == wanted
end

local function lie_together(record)
  local last, are_enough = last_of(record)
  local most, least = max(unpack(last)), min(unpack(last))
  local are_near = most - least <= 1 or (most - least) ^ 2 * CLOSE <= most
  return are_enough and are_near and least > 0 and record.highest < most
end

-- The samples with one more, at most the last few.
local function sampled(samples, held)
  local new = {}
  for place = max(1, #samples + 2 - SAMPLES), #samples do new[#new + 1] = samples[place] end
  new[#new + 1] = held
  return new
end

-- The cap was none.
local function none(record, samples, strikes)
  return new_slots({
    samples = samples, epoch = record.epoch, blurred = record.blurred, proven = record.cap,
    strikes = min(strikes, STRIKES),
  })
end

-- Begin a trial of what the last samples say.
local function trying(record, now, stamp, accepted)
  local cap = min(unpack((last_of(record))))
  return with(capped(record, cap, now, stamp), {
    tried = cap, met = accepted, due = mark(now, stamp.serial + TURNED), strikes = record.strikes,
  })
end

-- A rejection ends a trial.
local function decided(record, now, stamp, accepted)
  if record.gain == 0 or stamp.held < record.tried then return none(record, { stamp.held }, record.strikes + 1) end
  return with(capped(record, stamp.held, now, stamp), { met = accepted })
end

local function is_strike(record, stamp)
  return record.gain == 0 and stamp.serial - record.step.count >= TURNED
end

-- A rejection at the known cap.
local function overrun(record, now, stamp, accepted)
  local held, strikes = max(1, stamp.held), record.strikes + (is_strike(record, stamp) and 1 or 0)
  if strikes >= STRIKES then return none(record, { held }, strikes) end
  return with(capped(record, held, now, stamp), { strikes = strikes, met = accepted })
end

-- The first rejection of an epoch, `accepted` having been accepted before it; `named`: the provider said that it was
-- for concurrency.
local function rejected(record, now, stamp, accepted, named)
  record = with(record, { blurred = { stamp.at, now } })
  if named then return capped(record, max(1, stamp.held), now, stamp) end
  if is_retry(record, accepted) then return with(record, { retries = record.retries + 1 }) end
  if record.tried > 0 then return decided(record, now, stamp, accepted) end
  if is_own(record, stamp, accepted) then return overrun(record, now, stamp, accepted) end
  if #record.samples == 0 or record.highest > max(stamp.held, unpack(record.samples)) then
    return with(record, { samples = { stamp.held }, highest = 0 })
  end
  record = with(record, { samples = sampled(record.samples, stamp.held) })
  return lie_together(record) and trying(record, now, stamp, accepted) or record
end

-- A rejection of a request granted before the epoch moved: blurring on, and paid for outside of trials, at most twenty
-- at once.
local function echoed(record, now)
  record = with(record, { blurred = { record.blurred[1], now } })
  if record.cap == 0 or record.tried > 0 then return record end
  local due = record.due
  local count = min(due.count + PRICE, record.step.count + MOST_PAID * PRICE)
  return with(record, { due = with(due, { count = max(due.count, count) }) })
end

-- A request timed out: fewer at once, if it started when as many were in flight as are allowed or ever were.
local function timed_out(record, now, stamp, epoch)
  if epoch == record.epoch then return record end
  local base = record.cap > 0 and min(record.cap, stamp.held + 1) or stamp.held + 1
  local cut = floor(base * TIMEOUT_CUT / WHOLE)
  if cut == 0 then return record end
  return with(capped(record, base - cut, now, stamp), {
    proven = base - cut, epoch = epoch, due = mark(now + REST, stamp.serial),
  })
end

-- Whether the present step of growth is over, or the first one is due.
local function is_step_due(record, now, stamp)
  local since = record.gain > 0 and record.step or record.due
  local wait = record.gain > 0 and max(STEP, 2 * (record.blurred[2] - record.blurred[1])) or 0
  return now - since.at >= wait and stamp.serial >= since.count
end

-- One more than is tried goes, or went without being rejected.
local function watched(record, now, stamp)
  if record.gain == GAIN then return with(record, { gain = MOST_GAIN, step = mark(now, stamp.serial) }) end
  return is_step_due(record, now, stamp) and none(record, {}, record.strikes + 1) or record
end

-- A request goes with `stamp.held` others in flight. Makes the step of growth that is due while the cap binds.
local function granted(record, now, stamp, ceiling)
  if record.cap == 0 or stamp.held + 1 < record.cap then return record end
  if record.tried > 0 and record.gain > 0 then return watched(record, now, stamp) end
  if not is_step_due(record, now, stamp) then return record end
  local gain = min(FASTER * record.gain, MOST_GAIN)
  local cap = record.cap + max(1, floor(record.cap * gain / WHOLE))
  cap = max(1, min(cap, ceiling > 0 and ceiling or cap))
  return with(record, {
    cap = cap, gain = gain > 0 and gain or GAIN, step = mark(now, stamp.serial + floor(cap / 10)),
    strikes = record.tried > 0 and record.strikes or 0,
  })
end

-- The provider named its limit: that holds, whatever was guessed. Absurd figures change nothing.
local function told(record, cap)
  if cap <= 0 or cap >= MOST_CAP then return record end
  return with(record, { cap = cap, samples = {}, tried = 0, proven = cap, gain = 0 })
end

return {
  new_slots = new_slots, is_retry = is_retry, is_own = is_own, succeeded = succeeded, rejected = rejected,
  echoed = echoed, timed_out = timed_out, granted = granted, told = told,
}
