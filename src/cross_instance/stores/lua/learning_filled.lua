-- What a full window tells: when it ends, and how many it holds (as rules/learning_filled.py; its rules 1 to 4 hold
-- here). The end of a window is a list of two instants.

local values = require "learning_values"
local windows = require "learning_window"

local FULL, ENOUGH, SURE, MORE = 950000, 10, 100, 1020000
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

local function is_full(record, stamp)
  local began = beginning_of(record, stamp.at)
  if not began then return false end
  local held = stamp.serial - record.rejections - began.count + units_in(record.rate, 2 * began.idle)
  return held >= part(units_in(record.estimate, record.window.span), FULL)
end

-- Between which instants the window ends that a rejection shows to be full; nil where it shows none. `named`: between
-- which a Retry-After says that it does; `goes_on`: whether a trial in the same block was rejected.
local function full_window(record, stamp, named, goes_on)
  if record.window.span == 0 then return nil end
  local low, high = windows.end_of(record.window, goes_on and record.block.at or stamp.at)
  if named then
    low, high = max(low, named[1]), min(high, named[2])
    return low <= high and { low, high } or nil
  end
  if high <= stamp.at or not (goes_on or is_full(record, stamp)) then return nil end
  return { max(low, stamp.at), high }
end

-- The instant until which a full window is to be waited for.
local function wait_until(record, full, goes_on)
  local low, high = full[1], full[2]
  return (goes_on or high - low <= floor(record.window.span / SURE)) and high or floor((low + high) / 2)
end

-- The end of a full window.
local function boundary(full, accepted)
  return mark(floor((full[1] + full[2]) / 2), accepted, floor((full[2] - full[1]) / 2))
end

-- Where the window began that an instant is in, if that was seen and enough was accepted in it.
local function beginning(record, at, accepted, size)
  local began = beginning_of(record, at)
  return began and accepted - began.count >= ENOUGH * size and began or nil
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
  full_window = full_window, wait_until = wait_until, boundary = boundary, beginning = beginning,
  is_counted = is_counted, counted = counted, is_outgrown = is_outgrown,
}
