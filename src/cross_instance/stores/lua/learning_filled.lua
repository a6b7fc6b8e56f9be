-- What a full window tells: when it ends, and how many it holds (as rules/learning_filled.py; its rules 1 to 4 hold
-- here). A full window ends between `low` and `high`; `began` is where it began, nil where that was not seen.

local values = require "learning_values"
local windows = require "learning_window"

local FULL, SURE, MORE = 950000, 100, 1020000
local UNKNOWN = windows.UNKNOWN
local floor, max, min = math.floor, math.max, math.min
local mark, part, per_minute, sane, units_in = values.mark, values.part, values.per_minute, values.sane, values.units_in

local function has_begun(record, began, at)
  return began.count ~= UNKNOWN and began.at <= at and at <= began.at + began.idle + record.window.span
end

-- The beginning of the window that an instant is in, the present or the one before, if it was seen.
local function beginning_of(record, at)
  local window = record.window
  if has_begun(record, window.began, at) then return window.began end
  return has_begun(record, window.previous, at) and window.previous or nil
end

local function is_full(record, stamp, began)
  if not began then return false end
  local held = stamp.serial - record.rejections - began.count + units_in(record.rate, 2 * began.idle)
  return held >= part(units_in(record.estimate, record.window.span), FULL)
end

-- The window that a rejection shows to be full; nil where it shows none. `named`: between which instants a Retry-After
-- says that it ends; `goes_on`: whether a trial in the same block was rejected.
local function full_window(record, stamp, named, goes_on)
  if record.window.span == 0 then return nil end
  local at = goes_on and record.block.at or stamp.at
  local low, high = windows.end_of(record.window, at)
  local began = beginning_of(record, at)
  if named then
    low, high = max(low, named[1]), min(high, named[2])
    return low <= high and { low = low, high = high, began = began } or nil
  end
  if high <= stamp.at or not (goes_on or is_full(record, stamp, began)) then return nil end
  return { low = max(low, stamp.at), high = high, began = began }
end

-- The instant until which a full window is to be waited for.
local function wait_until(record, full, goes_on)
  local low, high = full.low, full.high
  return (goes_on or high - low <= floor(record.window.span / SURE)) and high or floor((low + high) / 2)
end

-- The end of a full window.
local function boundary(full, accepted)
  return mark(floor((full.low + full.high) / 2), accepted, floor((full.high - full.low) / 2))
end

local function is_same(one, other)
  return one.at == other.at and one.count == other.count and one.idle == other.idle
end

-- Whether the interval of a record is its window.
local function is_counted(record)
  local window = record.window
  local start = record.start
  return window.span > 0 and start and (is_same(start, window.began) or is_same(start, window.previous))
end

-- The estimate that follows from the count of a full window, `kept` being the one until then.
local function counted(record, cruised, kept)
  local first, last, span = record.start, record.finish, record.window.span
  local lowest = per_minute(last.count - first.count, span)
  local highest = lowest + part(record.block.met, floor(2 * first.idle * values.WHOLE / span))
  return sane(max(cruised and lowest or floor((lowest + highest) / 2), min(kept, highest)))
end

-- Whether more was accepted in one window than the estimate gives.
local function is_outgrown(record, accepted)
  local window = record.window
  local present = window.began.count ~= UNKNOWN and accepted - window.began.count or 0
  return max(window.passed, present) > 1 + part(units_in(record.estimate, window.span), MORE)
end

return {
  full_window = full_window, wait_until = wait_until, boundary = boundary,
  is_counted = is_counted, counted = counted, is_outgrown = is_outgrown,
}
