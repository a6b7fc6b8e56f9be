-- Fixed windows, recognised (as rules/learning_window.py; its rules 1 to 3 hold here, and its fields mean the same).

local values = require "learning_values"

local SPANS = { 10 * SECOND, MINUTE }
local ENDS, KEPT, DRIFT, UNKNOWN = 3, 4, 10000, -1
local floor, max, min = math.floor, math.max, math.min
local mark, with = values.mark, values.with

-- A window of which only this is known.
local function new_window(known)
  return with({
    span = 0, low = 0, high = 0, began = mark(0, UNKNOWN), passed = 0, ends = {}, longest = 0, proven = 0,
    previous = mark(0, UNKNOWN),
  }, known)
end

local function moved(window, spans)
  local by = spans * window.span
  return window.low + by - floor(by / DRIFT), window.high + by + floor(by / DRIFT)
end

-- A window whose present one has begun elsewhere than it was thought: how many went before is not known.
local function placed(window, now)
  local _, began = moved(window, floor((now - window.high) / window.span))
  local is_missed = began - window.began.at >= floor(window.span / 2)
  local unknown = mark(began, UNKNOWN)
  return is_missed and with(window, { began = unknown, previous = unknown }) or window
end

-- Between which instants the window ends that an instant is in.
local function end_of(window, at)
  local low, high = moved(window, max(0, floor((at - window.high) / window.span) + 1))
  return max(low, at), high
end

-- A request goes, `accepted` having been accepted before it: if it is the first in its window for sure, that began with
-- it. `climbs`: whether the rate is climbing.
local function rolled(window, now, accepted, climbs)
  if window.span == 0 then return window end
  local low, high = moved(window, floor((now - window.high) / window.span))
  if now < high or high - window.began.at < floor(window.span / 2) then return window end
  local idle = floor((high - low) / 2)
  local is_known = climbs and window.began.count ~= UNKNOWN
  return with(window, {
    began = mark(high - idle, accepted, idle), previous = window.began,
    passed = is_known and accepted - window.began.count or 0,
  })
end

-- The window of this span that all ends agree with; nil where there is none, or too few are sure enough.
local function agreed(seen, span)
  local sure = 0
  for _, one in ipairs(seen.ends) do
    if one[2] - one[1] <= floor(span / ENDS) then sure = sure + 1 end
  end
  if sure < ENDS then return nil end
  local low, high = seen.ends[#seen.ends][1], seen.ends[#seen.ends][2]
  for place = #seen.ends - 1, 1, -1 do
    local first, last = seen.ends[place][1], seen.ends[place][2]
    local away = floor((low - first + floor(span / 2)) / span) * span
    low, high = max(low, first + away - floor(away / DRIFT)), min(high, last + away + floor(away / DRIFT))
  end
  return low <= high and with(seen, { span = span, low = low, high = high }) or nil
end

-- A block ended between `low` and `high`, having lasted for `lasted` at least.
local function ended(window, now, low, high, lasted, proven)
  if window.span > 0 then
    local first, last = moved(window, floor((low - window.high) / window.span) + 1)
    if max(first, low) <= min(last, high) and lasted <= window.span then
      return placed(with(window, { low = max(first, low), high = min(last, high) }), now)
    end
    window = new_window({})
  end
  local ends = {}
  for place = max(1, #window.ends - KEPT + 2), #window.ends do ends[#ends + 1] = window.ends[place] end
  ends[#ends + 1] = { low, high }
  local longest, found, count = max(window.longest, lasted), nil, 0
  local seen = new_window({ ends = ends, longest = longest, proven = max(window.proven, proven) })
  for _, span in ipairs(SPANS) do
    local one = span >= longest and agreed(seen, span)
    if one then found, count = one, count + 1 end
  end
  return count == 1 and seen.proven > 0 and placed(found, now) or seen
end

return { UNKNOWN = UNKNOWN, new_window = new_window, end_of = end_of, rolled = rolled, ended = ended }
