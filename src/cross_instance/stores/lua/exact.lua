-- Integers beyond a double's reach.
--
-- Lua's numbers are doubles: integers are exact below 2^53. Whatever is stored is smaller, and so is nearly every
-- product that the rules form (rules/checks.py and rules/limits.py see to it); the functions are for the others.
-- A division of exact integers below 2^53 rounds down as it should: `math.floor(a / b)`.

local floor, min = math.floor, math.min

local function ceil_div(dividend, divisor)
  return -floor(-dividend / divisor)
end

-- level + each * count, for a level above -2^53; a sum of 2^53 or more is answered as some number that large.
local function gain(level, each, count)
  local product = each * count
  if product < EXACT then return level + product end
  local most = floor((EXACT - 1) / each)
  while count > 0 and level < EXACT do
    local step = min(count, most)
    level, count = level + step * each, count - step
  end
  return level
end

-- The smallest whole number of at least (high - low) / divisor, where high - low may not be exact.
local function ceil_div_difference(high, low, divisor)
  if high - low < EXACT then return ceil_div(high - low, divisor) end
  local rest = high % divisor + -low % divisor
  return floor(high / divisor) + floor(-low / divisor) + ceil_div(rest, divisor)
end

-- floor(one * other / divisor), by long multiplication.
local function muldiv(one, other, divisor)
  if one * other < EXACT then return floor(one * other / divisor) end
  local quotient, rest = 0, 0
  for bit = 52, 0, -1 do
    quotient, rest = quotient * 2, rest * 2
    if floor(other / 2 ^ bit) % 2 == 1 then
      quotient, rest = quotient + floor(one / divisor), rest + one % divisor
    end
    quotient, rest = quotient + floor(rest / divisor), rest % divisor
  end
  return quotient
end

-- Whether a / b < c / d, by their continued fractions.
local function is_less(a, b, c, d)
  local whole, other = floor(a / b), floor(c / d)
  if whole ~= other then return whole < other end
  a, c = a % b, c % d
  if c == 0 then return false end
  return a == 0 or is_less(d, c, b, a)
end

return {
  ceil_div = ceil_div, gain = gain, ceil_div_difference = ceil_div_difference, muldiv = muldiv, is_less = is_less,
}
