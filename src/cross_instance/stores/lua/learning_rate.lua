-- A hidden rate, found from boundary to boundary: the record, how it grows, what it remembers (as
-- rules/learning_rate.py; its rules 1 to 6 hold here, and its fields mean the same).
--
-- `start` and `finish` are the boundaries between which it is measured, false where there is none.

local filled = require "learning_filled"
local values = require "learning_values"
local windows = require "learning_window"

local floor, max, min = math.floor, math.max, math.min

local START, SEARCH, CRUISE, CLIMB, PROBE = 0, 1, 2, 3, 4 -- phases
local STEP, START_STEP, STEP_UNITS, AGAIN = 5 * SECOND, 4 * SECOND, 5, 3
local BUSY, BUSY_CRUISE = 700000, 800000
local START_GAIN, SEARCH_GAIN, CLIMB_GAIN, PROBE_GAIN, MOST_GAIN = 1000000, 400000, 20000, 40000, 500000
local CRUISE_SHARE = 990000
local REST = 15 * SECOND
local PROOF, UNPROVEN, LEAST_CLIMB = 1040000, 1200000, 80000
local AHEAD, AHEAD_MORE = 1500000, floor(SECOND / 2)
local IDLE, IDLE_SHARE = 15 * MINUTE, 700000

local WHOLE, LOWEST, HIGHEST = values.WHOLE, values.LOWEST, values.HIGHEST
local mark, part, per_minute, sane, with = values.mark, values.part, values.per_minute, values.sane, values.with

-- A run of rejections with hardly anything accepted between.
local function new_block(known)
  return with({
    rejections = 0, row = 0, met = 0, kept = 0, reached = 0, learning = 1, at = 0, count = 0, excess = 0,
    low = 0, high = 0,
  }, known)
end

-- A rate of which only this is known.
local function new_rate(known)
  return with({
    phase = START, estimate = 0, gain = START_GAIN, survived = 0, rejections = 0, start = false, finish = false,
    block = new_block({}), due = mark(0, 0), lag = 0, cost = 1000, learning = 1, told = 0, doubted = 0,
    slack = 0, window = windows.new_window({}),
  }, known)
end

-- Begin with a preset or a guess.
local function start(rate, now, serial)
  local here = mark(now, serial)
  return new_rate({ rate = rate, step = here, climb = here })
end

-- Stay just below the estimate.
local function cruising(record)
  return with(record, { phase = CRUISE, rate = sane(part(record.estimate, CRUISE_SHARE)) })
end

local function after_idling(record)
  local rate = sane(part(record.estimate, IDLE_SHARE))
  return with(record, {
    rate = rate, phase = CLIMB, gain = 2 * CLIMB_GAIN, climb = record.step, survived = 0, learning = 1,
  })
end

-- Go on with what was learned before a restart, `age` µs ago: with less of it when it is old.
local function resumed(old, now, serial, age)
  local here, rate = mark(now, serial), old.estimate > 0 and old.estimate or old.rate
  local fresh = {
    rate = rate, step = here, climb = here, phase = old.phase, cost = old.cost, lag = old.lag, slack = old.slack,
  }
  if old.estimate == 0 then return new_rate(fresh) end
  fresh = with(new_rate(fresh), { estimate = old.estimate, due = mark(now + REST, serial) })
  return age >= IDLE and after_idling(fresh) or cruising(fresh)
end

local function awaits_end(record)
  return record.block.low > 0 and record.block.high == 0
end

local function step_of(record)
  return max(record.phase == START and START_STEP or STEP, 3 * record.lag)
end

-- From which instant on a grant may change the record.
local function watched_from(record, now)
  if awaits_end(record) then return now end
  local step = max(record.step.at + step_of(record), now + SECOND)
  if record.window.span == 0 then return step end
  local _, high = windows.end_of(record.window, now)
  return min(step, high)
end

-- Whether a block goes on: hardly anything was accepted since its last rejection.
local function goes_on(record, accepted, size)
  return record.finish and accepted - record.finish.count < AGAIN * size
end

-- Date what only a request does: the end of a block, the beginning of a window.
local function dated(record, now, accepted)
  if awaits_end(record) then record = with(record, { block = with(record.block, { high = now }) }) end
  local window = windows.rolled(record.window, now, accepted, record.phase >= CLIMB)
  return window == record.window and record or with(record, { window = window })
end

-- Look at when the last block ended; an outage's end says nothing.
local function block_over(record, now, accepted)
  local block, window, doubt = record.block, record.window, floor(record.lag / 4)
  if block.low == 0 or block.high == 0 or goes_on(record, accepted, 1) then return record end
  local lasted = block.low - block.at
  if lasted <= MINUTE then
    local rate = record.estimate > 0 and record.estimate or record.rate
    local proven = values.units_in(rate, lasted) >= AGAIN and 1 or 0
    window = windows.ended(window, now, block.low - doubt, block.high + doubt, lasted, proven)
  end
  return with(record, { window = window, block = with(block, { low = 0 }) })
end

local function quiet(record, elapsed)
  record = with(record, { start = false, finish = false })
  if record.phase == START then return with(record, { climb = record.step }) end
  if record.estimate == 0 then return record end
  if elapsed >= IDLE then return after_idling(record) end
  return record.phase >= CLIMB and cruising(record) or record
end

local function believed(record)
  return record.told > 0 and record.doubted == 0 and record.told or HIGHEST
end

local function faster(record, gain, highest)
  local rate = max(record.rate, min(part(record.rate, WHOLE + gain), highest))
  return with(record, { rate = sane(rate), survived = record.rate, gain = gain })
end

local function is_proven(record, here)
  local units, elapsed = here.count - record.climb.count, here.at - record.climb.at
  if per_minute(units, max(MINUTE, elapsed)) > part(record.estimate, PROOF) then return true end
  local further = part(record.slack, AHEAD) + AHEAD_MORE
  return record.slack > 0 and values.ahead(units, elapsed, record.estimate) > further
end

local function highest_climb(record, here)
  local span, allowed = record.window.span, floor(UNPROVEN * 1000 / max(1000, record.cost))
  local is_free
  if span > 0 then
    is_free = filled.is_outgrown(record, here.count)
    allowed = floor(allowed * floor(span / SECOND) / floor(MINUTE / SECOND))
  else
    is_free = is_proven(record, here)
  end
  return is_free and HIGHEST or part(record.estimate, WHOLE + max(LEAST_CLIMB, allowed))
end

local function grown(record, here)
  if record.phase == START then
    local has_rolled = here.at - record.climb.at > MINUTE
    return faster(has_rolled and with(record, { climb = here }) or record, START_GAIN, HIGHEST)
  end
  if record.phase == SEARCH then return faster(record, SEARCH_GAIN, HIGHEST) end
  if record.phase == CRUISE then
    if here.at < record.due.at or here.count < record.due.count then return record end
    return with(faster(with(record, { phase = PROBE, climb = here }), PROBE_GAIN, HIGHEST), { survived = 0 })
  end
  return faster(record, min(2 * record.gain, MOST_GAIN), highest_climb(record, here))
end

-- A request goes; `serial` units were granted before it. Makes the step that is due, if one is.
local function granted(record, now, serial, ceiling)
  local elapsed, accepted = now - record.step.at, serial - record.rejections
  record = dated(record, now, accepted)
  if elapsed < step_of(record) then return record end
  record = block_over(record, now, accepted)
  local units, here = accepted - record.step.count, mark(now, accepted)
  local enough = record.phase >= CRUISE and BUSY_CRUISE or BUSY
  if per_minute(units, elapsed) < part(record.rate, enough) then
    if values.units_in(record.rate, elapsed) < STEP_UNITS then return record end
    return quiet(with(record, { step = here }), elapsed)
  end
  if units < STEP_UNITS then return record end
  local stepped = grown(with(record, { step = here }), here)
  return with(stepped, { rate = max(LOWEST, min(stepped.rate, ceiling, believed(stepped))) })
end

return {
  START = START, SEARCH = SEARCH, CRUISE = CRUISE, CLIMB = CLIMB, PROBE = PROBE,
  PHASES = { [START] = "start", [SEARCH] = "search", [CRUISE] = "cruise", [CLIMB] = "climb", [PROBE] = "probe" },
  CRUISE_SHARE = CRUISE_SHARE, STEP = STEP, BUSY = BUSY, REST = REST, PRICE = 200, LONGEST_REST = 240 * SECOND,
  SEARCH_GAIN = SEARCH_GAIN, CLIMB_GAIN = CLIMB_GAIN, new_block = new_block, new_rate = new_rate, start = start,
  resumed = resumed, cruising = cruising, granted = granted, goes_on = goes_on, watched_from = watched_from,
}
