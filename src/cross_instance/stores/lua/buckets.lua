-- Token buckets and fixed windows: refilling, charging, crediting (of rules/limits.py what every permit needs).
--
-- 1. A bucket holds units times `den` and gains `num` each microsecond: no division, so no drift.
-- 2. `guard` units are never filled: what `spread` µs of delay from grant to send may bunch together.
-- 3. A fixed window closes early, by the same `spread`: what is granted at its very end may arrive in the next one.
-- 4. Of a charge at most `cap - the highest level since` can be returned: refilled time is not given twice.

local exact = require "exact"
local kinds = require "kinds"

local MOST = EXACT - 1
local floor, max, min = math.floor, math.max, math.min
local gain = exact.gain

-- Count the two nearest heights as one, the higher.
local function merge_nearest(peaks)
  local at, least = 1, math.huge
  for place = 1, #peaks - 2, 2 do
    local difference = math.abs(peaks[place + 1] - peaks[place + 3])
    if difference < least then at, least = place, difference end
  end
  peaks[at + 3] = max(peaks[at + 1], peaks[at + 3])
  table.remove(peaks, at)
  table.remove(peaks, at)
end

-- Remember how high the level stood before the next charge: the last few heights that no later one reached. Those that
-- are near each other count as one, the higher.
local function note(limit, level)
  local peaks, last = limit.peaks, #limit.peaks
  while last > 0 and peaks[last] <= level do
    peaks[last], peaks[last - 1] = nil, nil
    last = last - 2
  end
  if last > 0 and peaks[last] - level < floor(limit.cap * limit.den / NEAR) then
    peaks[last - 1] = limit.charges
    return
  end
  peaks[last + 1], peaks[last + 2] = limit.charges, level
  if last + 2 > 2 * PEAKS then merge_nearest(peaks) end
end

-- Bring a bucket to the present. A window more than one ahead was opened by a wall clock that ran ahead. At the end of
-- a window, when it has closed, nothing is left of it.
local function refill(limit, at)
  if limit.anchor then
    local window = floor((at.wall - limit.anchor) / limit.period)
    if window > limit.window then
      limit.window, limit.level = window, limit.cap * limit.den
      note(limit, limit.level)
    elseif window < limit.window - 1 then
      limit.window = window
    end
    if limit.at ~= 0 and limit.anchor + (limit.window + 1) * limit.period + limit.at <= at.wall then
      limit.level = min(limit.level, 0)
    end
    return
  end
  local elapsed = at.mono - limit.at
  if elapsed <= 0 then return end
  local full = limit.cap * limit.den
  if limit.level < full then limit.level = min(full, gain(limit.level, limit.num, elapsed)) end
  limit.at = at.mono
end

-- Let a drained bucket be refilled from an instant on.
local function refill_from(node, kind, at)
  for _, limit in ipairs(node.limits) do
    if limit.kind == kind and not limit.anchor then limit.at = at end
  end
end

-- Keep back what `spread` µs of delay (up to a second) may bunch together, or may carry over the end of a fixed window
-- (up to half of it), whose `at` is that time as a negative number. What is missing from a bucket stays the same.
local function set_guard(limit, spread)
  if limit.kind > BUCKETS then return end
  if limit.anchor then
    limit.at = 0 - min(spread, SECOND, floor(limit.period / 2))
    return
  end
  local bunched = exact.ceil_div(limit.num * min(spread, SECOND), limit.den)
  local cap = limit.burst - min(limit.burst - 1, max(1, bunched))
  local shift = (cap - limit.cap) * limit.den
  if shift == 0 then return end
  limit.cap, limit.level, limit.low = cap, max(limit.level + shift, -MOST), max(limit.low + shift, -MOST)
  for place = 2, #limit.peaks, 2 do
    limit.peaks[place] = limit.peaks[place] + shift
  end
end

-- Take units from a bucket, or owe them. Only a height to which the level rose since the last charge is noted.
local function take(limit, units)
  if limit.level > limit.low then note(limit, limit.level) end
  limit.charges = limit.charges + 1
  limit.level = -min(MOST, gain(-limit.level, limit.den, units))
  limit.low = limit.level
end

-- The provider's bucket is empty, so ours is: one request may go first, the rest when it is refilled.
local function drain(node, kind, until_at)
  local hit = kinds.KIND[kind or "requests"]
  for _, limit in ipairs(node.limits) do
    if limit.kind == hit and limit.kind ~= CONCURRENCY and not limit.anchor then
      local is_requests = limit.kind == REQUESTS or limit.kind == REQUESTS_DAY
      take(limit, max(0, exact.ceil_div(limit.level - (is_requests and limit.den or 0), limit.den)))
      note(limit, limit.cap * limit.den)
      limit.at = max(limit.at, until_at)
    end
  end
end

-- Return units of a charge that was the `mark`-th, as far as they were not refilled by time already.
local function credit(limit, units, mark)
  if mark == 0 then return end
  local peaks, highest = limit.peaks, limit.level
  for place = 1, #peaks, 2 do
    if peaks[place] >= mark then highest = max(highest, peaks[place + 1]) end
  end
  local returned = min(units * limit.den, limit.cap * limit.den - highest, MOST)
  if returned <= 0 then return end
  limit.level, limit.low = limit.level + returned, limit.low + returned
  for place = 1, #peaks, 2 do
    if peaks[place] >= mark then peaks[place + 1] = peaks[place + 1] + returned end
  end
end

-- Return a permit's slot, and bring what it was charged to what the provider charged, by each limit's rule.
-- The node's marks follow the first `before` of a permit; `usage` is nil where it is not known.
local function correct(node, charged, marks, before, usage, rejected)
  node.held = node.held - 1
  if not usage and not rejected then return end
  for _, limit in ipairs(node.limits) do
    local kind = limit.kind
    if kind <= BUCKETS then
      local place, mark = UNITS[kind], marks[before + kind] or 0
      if rejected and limit.refund then
        credit(limit, charged[place], mark)
      elseif usage and limit.correct and place > 1 then
        local surplus = charged[place] - usage[place]
        if surplus > 0 then
          credit(limit, surplus, mark)
        elseif surplus < 0 then
          take(limit, -surplus)
        end
      end
    end
  end
end

-- Follow the spread of the delay from grant to send: up at once, down by a sixty-fourth with each permit. Whether a
-- window has closed by now is told by the guard that it had until now. A second at most: more makes no wider guard.
local function measure(node, delay, at)
  local spread = min(delay, SECOND)
  if spread <= node.spread then spread = node.spread - floor((node.spread - spread) / 64) end
  if spread == node.spread then return end
  node.spread = spread
  for _, limit in ipairs(node.limits) do
    if limit.anchor then refill(limit, at) end
    set_guard(limit, spread)
  end
end

return {
  note = note, refill = refill, refill_from = refill_from, drain = drain, set_guard = set_guard, take = take,
  credit = credit, correct = correct, measure = measure,
}
