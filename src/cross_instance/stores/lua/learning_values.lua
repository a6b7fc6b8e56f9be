-- What the learner counts in (as rules/learning_values.py): rates are thousandths of a unit per minute, shares and
-- factors millionths (ppm), times µs. All are integers below 2^53; products that are not go through exact.lua.
--
-- The parts of a learner are not changed but replaced (`with`). What is not there is false.
--
-- A stamp is what a permit remembers of its grant: `serial` units granted before it, `at`, `held` in flight besides,
-- `size` in units. A mark is an instant `at`, how many units had been accepted by then, and by how much (`idle`) the
-- instant may be too early.

local exact = require "exact"

local WHOLE, UNIT = 1000000, 1000
local LOWEST, HIGHEST = 1000, 1000000000000 -- rates outside are absurd
local MANY = 100000000
local floor, max, min = math.floor, math.max, math.min

-- A record with some fields changed.
local function with(record, changes)
  local new = {}
  for name, value in pairs(record) do new[name] = value end
  for name, value in pairs(changes) do new[name] = value end
  return new
end

local function mark(at, count, idle)
  return { at = at, count = count, idle = idle or 0 }
end

local function stamp(serial, at, held, size)
  return { serial = serial, at = at, held = held or 0, size = size or 1 }
end

-- A rate times a factor.
local function part(rate, ppm)
  local product = rate * ppm
  if product < EXACT then return floor(product / WHOLE) end
  return floor(rate / WHOLE) * ppm
end

-- The rate of `units` in `us`; more than 10^8 units are counted in pairs, fours and so on.
local function per_minute(units, us)
  local ms = max(1, floor(us / 1000))
  units = max(0, units)
  while units > MANY do units, ms = floor(units / 2), max(1, floor(ms / 2)) end
  return min(HIGHEST, floor(units * MINUTE / ms))
end

-- How many µs longer than `us` the rate would have taken to give `units`, at most as long again.
local function ahead(units, us, rate)
  return exact.muldiv(max(0, us), max(0, min(per_minute(units, us) - rate, rate)), rate)
end

-- How many units a rate gives in `us`.
local function units_in(rate, us)
  return exact.muldiv(floor(rate / UNIT), floor(us / 1000), 60000)
end

-- A rate within what is not absurd.
local function sane(rate)
  return max(LOWEST, min(rate, HIGHEST))
end

-- A limit on requests or tokens as the learner counts it.
local function rate_of(limit)
  return sane(exact.muldiv(limit.amount, MINUTE, max(1, floor(limit.period / 1000))))
end

return {
  WHOLE = WHOLE, UNIT = UNIT, LOWEST = LOWEST, HIGHEST = HIGHEST, with = with, mark = mark, stamp = stamp,
  part = part, ahead = ahead, per_minute = per_minute, units_in = units_in, sane = sane, rate_of = rate_of,
}
