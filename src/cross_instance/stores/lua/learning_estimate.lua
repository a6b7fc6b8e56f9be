-- What rejections tell about a hidden rate: the estimate between two boundaries (as rules/learning_estimate.py; its
-- rules 1 to 9 hold here).

local exact = require "exact"
local filled = require "learning_filled"
local rates = require "learning_rate"
local values = require "learning_values"

local ENOUGH = 10
local FIRST_CUT, FIRST_FLOOR, FIRST_LASTED = 700000, 100000, 750000
local AGREES, AGREES_LEARNING, MOST_UNSURE = 50000, 30000, 200000
local FALLEN, FALL, DECAY, DRIFT, DRIFT_LEARNING = 1020000, 980000, 995000, 1030000, 1080000
local GROWING, GROWN_GAIN, GROWN_MOST = 1080000, 100000, 1500000
local IN_USE, LONG_ROW = 500000, 8
local SHORTEST_PAUSE = SECOND / 50

local WHOLE = values.WHOLE
local START, SEARCH, CRUISE, CLIMB, PROBE = rates.START, rates.SEARCH, rates.CRUISE, rates.CLIMB, rates.PROBE
local PRICE, REST, LONGEST_REST, CLIMB_GAIN = rates.PRICE, rates.REST, rates.LONGEST_REST, rates.CLIMB_GAIN
local floor, max, min = math.floor, math.max, math.min
local mark, part, per_minute, sane, with = values.mark, values.part, values.per_minute, values.sane, values.with
local ahead, units_in, cruising = values.ahead, values.units_in, rates.cruising

-- The µs to wait after the `row`-th rejection in a row where nothing is known, ± 20 % by a draw.
local function blind_pause(row, draw)
  local us = SECOND * 2 ^ (row < LONG_ROW and min(row, 3) or min(row - 4, 5))
  return floor(us * 4 / 5) + floor(floor(us * 2 / 5) * floor(draw / 4096) / 2 ^ 20)
end

-- How many rejections in a row this one ends, less one.
local function next_row(record, stamp)
  return rates.goes_on(record, stamp.serial - record.rejections, stamp.size) and record.block.row + 1 or 0
end

-- The µs to wait after a rejection where the provider did not say: until the full window ends, or as after as many in a
-- row.
local function pause(record, now, stamp, draw)
  local row = next_row(record, stamp)
  local full = filled.full_window(record, stamp, nil, row > 0)
  if not full then return blind_pause(row, draw) end
  return max(SHORTEST_PAUSE, filled.wait_until(record, full, row > 0) - now)
end

-- Whether a recognised window that is full explains a rejection.
local function meets_full_window(record, stamp)
  return filled.full_window(record, stamp, nil, next_row(record, stamp) > 0) ~= nil
end

-- A rejection of a request granted before the epoch moved: counted, paid for, nothing else.
local function echoed(record, stamp)
  local due, price = record.due, PRICE * stamp.size
  local most = record.step.count + max(price, units_in(record.rate, LONGEST_REST))
  return with(record, {
    rejections = record.rejections + stamp.size,
    block = with(record.block, { rejections = record.block.rejections + 1 }),
    due = with(due, { count = max(due.count, min(due.count + price, most)) }),
  })
end

-- Count a rejection, its delay and its price; the next step starts when the pause is over.
local function noted(record, now, stamp, here)
  local lag, price = max(0, now - stamp.at), PRICE * stamp.size
  local due = here.count + price
  if record.window.span > 0 or record.phase == CRUISE or record.phase == PROBE then
    local longest = max(price, units_in(record.rate, LONGEST_REST))
    due = min(max(record.due.count, here.count) + price, here.count + longest)
  end
  return with(record, {
    rejections = record.rejections + stamp.size,
    lag = lag > record.lag and lag or record.lag - floor((record.lag - lag) / 8),
    step = here, climb = here, due = mark(here.at + REST, due),
  })
end

-- Go to an estimate that is not confirmed, and look for its confirmation.
local function climbing(record, estimate, gain)
  local cruise = cruising(with(record, { estimate = sane(estimate) }))
  return with(cruise, { phase = CLIMB, gain = gain, survived = 0 })
end

local function concluded(record, figure, unsure)
  local block = record.block
  local kept = block.kept
  if kept == 0 then return climbing(record, figure, CLIMB_GAIN) end
  local near = part(kept, min(MOST_UNSURE, unsure + (block.learning > 0 and AGREES_LEARNING or AGREES)))
  if figure > kept + near then
    local estimate = max(figure, min(block.reached, part(figure, GROWN_MOST)))
    return climbing(with(record, { learning = 1 }), estimate, GROWN_GAIN)
  end
  if block.excess > 0 then
    record = with(record, { slack = max(block.excess, record.slack - floor(record.slack / 8)) })
  end
  if figure < kept - near then return climbing(record, figure, CLIMB_GAIN) end
  local estimate
  if block.met <= part(kept, FALLEN) then
    estimate = max(min(figure, part(kept, DECAY)), part(kept, FALL))
  elseif block.reached > kept then
    estimate = max(figure, min(block.reached, part(kept, block.learning > 0 and DRIFT_LEARNING or DRIFT)))
  else
    estimate = max(figure, part(kept, DECAY))
  end
  return cruising(with(record, { estimate = sane(estimate) }))
end

-- The window's count is the limit: there is nothing to confirm.
local function counted(record)
  local kept = record.block.kept
  local has_cruised = record.block.met <= part(kept, FALLEN)
  local estimate = filled.counted(record, has_cruised, has_cruised and part(kept, FALL) or kept)
  return cruising(with(record, { estimate = estimate, learning = 0 }))
end

-- The estimate that follows from the interval between the two boundaries.
local function judged(record, size)
  local first, last, block = record.start, record.finish, record.block
  if not first or not last or last.count - first.count < ENOUGH * size then return record end
  if filled.is_counted(record) then return counted(record) end
  local units, us = last.count - first.count, last.at - first.at
  local figure = min(block.met, per_minute(units, us))
  if figure < (block.kept > 0 and block.kept or block.met) then
    local highest = min(block.met, per_minute(units, us - first.idle))
    figure = min(highest, block.kept > 0 and block.kept or highest)
  end
  local unsure = exact.muldiv(floor((first.idle + last.idle) / 1000), WHOLE, max(1, floor(us / 1000)))
  return concluded(record, sane(figure), unsure)
end

-- Forget what an outage seemed to teach.
local function outlasted(record)
  record = with(record, { start = false })
  if record.block.kept == 0 then return record end
  return cruising(with(record, { estimate = record.block.kept }))
end

-- Whether a rejection ended a climb, and it is cruised on from what is known.
local function confirms(before, after)
  return before.phase >= CLIMB and after.phase == CRUISE and after.block.row == 0
end

-- There is no boundary before: this is one. Only the very first overload cuts without having measured; met while
-- cruising and in use, what is known is a little lower, so that nothing stays high where quiet steps forget each
-- boundary.
local function first(record, past, finish)
  local block = rates.new_block({ rejections = 1, met = past.rate, at = finish.at, count = finish.count })
  record = with(record, { start = false, finish = finish, block = block })
  if past.estimate > 0 then
    local used = per_minute(finish.count - past.block.count, finish.at - past.block.at)
    if past.phase ~= CRUISE or used < part(past.estimate, IN_USE) then return record end
    return cruising(with(record, { estimate = sane(part(past.estimate, FALL)) }))
  end
  local seen = per_minute(finish.count - past.climb.count, record.step.at - past.climb.at)
  local lasted = past.phase == START and part(past.survived, FIRST_LASTED) or 0
  local rate = sane(min(part(past.rate, FIRST_CUT), max(part(past.rate, FIRST_FLOOR), seen, lasted)))
  return with(record, { phase = SEARCH, gain = rates.SEARCH_GAIN, rate = rate })
end

-- The block goes on. Once enough was accepted in it, one or two at a time, it is judged by itself: what was accepted
-- before it says nothing of a limit that has fallen far.
local function prolonged(record, finish, row, size, window)
  local block = with(record.block, { rejections = record.block.rejections + 1, row = row })
  record = with(record, { finish = finish, block = block })
  if row >= LONG_ROW and finish.count - block.count < row * size then return outlasted(record) end
  if window or finish.count - block.count >= ENOUGH * size then
    record = with(record, { start = window or mark(block.at, block.count) })
  end
  return judged(record, size)
end

local function start_of(past, size)
  local is_short = past.start and past.finish and past.finish.count - past.start.count < ENOUGH * size
  return is_short and past.start or past.finish
end

-- The rate that a climb had sustained: that of the last whole step while little is known, then that of two steps, since
-- one is shorter than a window may be.
local function reached(past, climbed)
  local lasted = past.survived
  if past.rate > lasted and past.learning == 0 then
    lasted = exact.muldiv(lasted, WHOLE, WHOLE + floor(past.gain / 2))
  end
  return climbed > part(past.estimate, GROWING) and lasted or min(lasted, climbed)
end

local function block_after(past, stamp, accepted)
  local units, us, climbs = accepted - past.climb.count, stamp.at - past.climb.at, past.phase >= CLIMB
  return rates.new_block({
    rejections = 1, met = past.rate, kept = past.estimate,
    reached = climbs and reached(past, per_minute(units, us)) or 0, at = stamp.at, count = accepted,
    learning = past.learning > 0 and past.phase ~= CRUISE and 1 or 0,
    excess = climbs and past.estimate > 0 and ahead(units, us, past.estimate) or 0,
  })
end

-- Another block has begun.
local function met(record, past, stamp, finish, window)
  local block = block_after(past, stamp, finish.count)
  return judged(with(record, {
    start = window or start_of(past, stamp.size), finish = finish, block = block, learning = block.learning,
    cost = floor((3 * past.cost + 1000 * past.block.rejections) / 4),
  }), stamp.size)
end

-- The first rejection of an epoch. `resume`: when the pause ends; `told`: the provider said so (Retry-After).
local function rejected(past, now, stamp, resume, told)
  local accepted, row = stamp.serial - past.rejections, next_row(past, stamp)
  local low = told and resume - SECOND - past.lag or stamp.at
  local full = filled.full_window(past, stamp, told and { low, resume }, row > 0)
  local idle = (told or row == 0) and 0 or floor((resume - stamp.at) / 2)
  local finish = full and filled.boundary(full, accepted) or mark(resume - idle, accepted, idle)
  local window = full and full.began
  if window and accepted - window.count < ENOUGH * stamp.size then window = nil end
  local record = noted(past, now, stamp, mark(resume, accepted))
  if not past.finish then
    record = first(record, past, finish)
  elseif row > 0 then
    record = prolonged(record, finish, row, stamp.size, window)
  else
    record = met(record, past, stamp, finish, window)
  end
  return with(record, {
    block = with(record.block, { low = low, high = 0 }), window = with(record.window, { passed = 0 }),
  })
end

return {
  pause = pause, blind_pause = blind_pause, next_row = next_row, echoed = echoed, rejected = rejected,
  confirms = confirms, meets_full_window = meets_full_window,
}
