-- A hidden limit of concurrency, told apart from a hidden rate (as rules/learning_concurrency.py; its rules 1 to 7 hold
-- here, and its fields mean the same).

local rates = require "learning_rate"
local values = require "learning_values"

local SAMPLES, TURNED, CLOSE, FILLED, AT_CAP = 5, 10, 10, 20000, 900000
local STRIKES, TRIALS, AGAIN = 3, 4, 3
local GAIN, MOST_GAIN, MOST_PAID, TIMEOUT_CUT = 30000, 500000, 20, 100000
local MOST_CAP = 2 ^ 31

local WHOLE, PRICE, REST, STEP = values.WHOLE, rates.PRICE, rates.REST, rates.STEP
local floor, max, min = math.floor, math.max, math.min
local mark, with = values.mark, values.with

-- Slots of which only this is known.
local function new_slots(known)
  return with({
    cap = 0, samples = {}, since = 0, highest = 0, gain = 0, step = mark(0, 0), due = mark(0, 0), epoch = -1,
    blurred = { 0, -1 }, proven = 0, strikes = 0, met = -AGAIN, trials = 0,
  }, known)
end

-- Whether a rejection, `accepted` having been accepted before it, answers a trial after one of the cap's own.
local function is_trial(record, accepted)
  return record.cap > 0 and accepted - record.met < AGAIN and record.trials < TRIALS
end

-- Whether a rejection is the known cap's, and so not the rate's.
local function is_own(record, stamp, accepted)
  if record.cap == 0 or accepted - record.met < AGAIN then return is_trial(record, accepted) end
  return stamp.held >= max(1, min(floor(record.cap * AT_CAP / WHOLE), record.proven + 1))
end

local function capped(record, cap, now, stamp)
  return with(record, {
    cap = cap, samples = {}, highest = 0, proven = 0, trials = 0, gain = 0,
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

local function are_slots(record, stamp)
  local samples = record.samples
  local most, least = max(unpack(samples)), min(unpack(samples))
  return #samples == SAMPLES and (most - least <= 1 or (most - least) ^ 2 * CLOSE <= most)
    and stamp.serial - record.since >= 2 * most + TURNED
    and most - record.highest <= max(1, floor(most * FILLED / WHOLE)) and record.highest < max(1, most)
end

-- The samples with one more, at most the last few.
local function sampled(samples, held)
  local new = {}
  for place = max(1, #samples + 2 - SAMPLES), #samples do new[#new + 1] = samples[place] end
  new[#new + 1] = held
  return new
end

local function is_strike(record, stamp)
  return record.gain == 0 and stamp.serial - record.step.count >= TURNED + floor(record.cap / 2)
end

-- A rejection at the known cap.
local function overrun(record, now, stamp, accepted)
  local held, strikes = max(1, stamp.held), record.strikes + (is_strike(record, stamp) and 1 or 0)
  if strikes >= STRIKES then
    return new_slots({ samples = { held }, since = stamp.serial, epoch = record.epoch, blurred = record.blurred })
  end
  return with(capped(record, held, now, stamp), { strikes = strikes, met = accepted })
end

-- The first rejection of an epoch, `accepted` having been accepted before it; `named`: the provider said that it was
-- for concurrency.
local function rejected(record, now, stamp, accepted, named)
  record = with(record, { blurred = { stamp.at, now } })
  if named then return capped(record, max(1, stamp.held), now, stamp) end
  if is_trial(record, accepted) then return with(record, { trials = record.trials + 1 }) end
  if is_own(record, stamp, accepted) then return overrun(record, now, stamp, accepted) end
  if #record.samples == 0 or record.highest > max(stamp.held, unpack(record.samples)) then
    return with(record, { samples = { stamp.held }, since = stamp.serial, highest = 0 })
  end
  record = with(record, { samples = sampled(record.samples, stamp.held) })
  if not are_slots(record, stamp) then return record end
  return with(capped(record, max(1, unpack(record.samples)), now, stamp), { met = accepted })
end

-- A rejection of a request granted before the epoch moved: paid for, at most twenty at once, and blurring on.
local function echoed(record, now)
  if record.cap == 0 then return record end
  local due = record.due
  local count = min(due.count + PRICE, record.step.count + MOST_PAID * PRICE)
  return with(record, {
    due = with(due, { count = max(due.count, count) }), blurred = { record.blurred[1], now },
  })
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

-- A request goes with `stamp.held` others in flight. Makes the step of growth that is due while the cap binds.
local function granted(record, now, stamp, ceiling)
  if record.cap == 0 or stamp.held + 1 < record.cap then return record end
  local since = record.gain > 0 and record.step or record.due
  local wait = record.gain > 0 and STEP or 0
  if now - since.at < wait or stamp.serial < since.count then return record end
  local gain = record.gain > 0 and min(2 * record.gain, MOST_GAIN) or GAIN
  local cap = record.cap + max(1, floor(record.cap * gain / WHOLE))
  cap = max(1, min(cap, ceiling > 0 and ceiling or cap))
  return with(record, { cap = cap, gain = gain, step = mark(now, stamp.serial + floor(cap / 10)), strikes = 0 })
end

-- The provider named its limit: that holds, whatever was guessed. Absurd figures change nothing.
local function told(record, cap)
  if cap <= 0 or cap >= MOST_CAP then return record end
  return with(record, { cap = cap, samples = {}, proven = cap, gain = 0 })
end

return {
  new_slots = new_slots, is_trial = is_trial, is_own = is_own, succeeded = succeeded, rejected = rejected,
  echoed = echoed, timed_out = timed_out, granted = granted, told = told,
}
