-- Limits: what keeps a request back, and limits made, changed and shown (the rest of rules/limits.py).

local exact = require "exact"
local kinds = require "kinds"
local buckets = require "buckets"

local SHARE = 1000000
local floor, max, min = math.floor, math.max, math.min

local function gcd(one, other)
  while other ~= 0 do one, other = other, one % other end
  return one
end

-- Burst and period, and the rate `num` / `den` in units per µs; slots have a burst alone.
local function figures_of(spec)
  local slots = spec.kind == "concurrency"
  local burst, period = slots and spec.amount or spec.burst, slots and 1 or spec.period
  local divisor = gcd(spec.amount, period)
  return burst, period, spec.amount / divisor, period / divisor
end

-- Whether a limit's figures stay exact (rules/checks.py ensures it for what instances publish).
local function is_exact(spec)
  if spec.amount < 1 or spec.amount * SHARE >= EXACT then return false end
  if spec.period >= EXACT and spec.kind ~= "concurrency" then return false end
  local burst, period, num, den = figures_of(spec)
  return min(burst, period) >= 1 and (burst + 1) * den + num < EXACT
end

-- A full bucket for what an instance published.
local function new_limit(spec, at)
  local burst, period, num, den = figures_of(spec)
  local limit = {
    kind = kinds.KIND[spec.kind], source = kinds.SOURCE[spec.source], amount = spec.amount, burst = burst,
    period = period, correct = spec.correct, refund = spec.refund, anchor = spec.anchor, num = num, den = den,
    cap = burst, level = burst * den, low = burst * den, at = spec.kind == "concurrency" and FOREVER or at.mono,
    window = 0, charges = 0, peaks = {},
  }
  if spec.anchor then
    limit.window, limit.at = floor((at.wall - spec.anchor) / period), 0
  end
  return limit
end

-- Leave a second's worth of requests, at least one, in a bucket whose limit is not really known.
local function start_low(limit)
  if limit.kind == REQUESTS then
    limit.level = min(limit.level, max(1, floor(limit.amount * SECOND / limit.period)) * limit.den)
  end
end

-- Let a changed limit go on from where the old one stood, in whole units: nobody gets a full bucket by a change.
local function carry_over(new, old, at)
  if new.kind == CONCURRENCY then return end
  buckets.refill(old, at)
  new.charges, new.peaks, new.low = old.charges, old.peaks, old.low
  if new.num == old.num and new.den == old.den and new.burst == old.burst and new.anchor == old.anchor then
    new.cap, new.level = old.cap, old.level
  else
    local unguarded = floor(old.level / old.den) + old.burst - old.cap
    new.level = max(min(new.level, unguarded * new.den), 1 - EXACT)
    new.low = new.level
    buckets.note(new, new.cap * new.den)
  end
  new.at = max(new.at, old.at)
  if new.anchor == old.anchor and new.period == old.period then new.window = max(new.window, old.window) end
end

local function refill_time(limit, wanted, at)
  if limit.anchor then return max(1, limit.anchor + (limit.window + 1) * limit.period - at.wall) end
  return min(exact.ceil_div_difference(wanted, limit.level, limit.num) + max(0, limit.at - at.mono), FOREVER)
end

-- Whether a request exceeds a configured or told limit by itself; a guessed one is no reason to refuse.
local function is_excess(limit, units)
  return units > limit.burst and (limit.source == CONFIGURED or limit.source == TOLD)
end

-- Whether a permit in flight may return to a bucket what it turns out not to use.
local function may_return(node, limit)
  return node.held > 0 and limit.correct and UNITS[limit.kind] > 1
end

-- The limit of a kind at a node, or nil.
local function of_kind(node, kind)
  for _, limit in ipairs(node.limits) do
    if limit.kind == kind then return limit end
  end
  return nil
end

-- What keeps a request back at a node: how long its buckets need, in µs, the bucket that needs longest, the slots where
-- none is free, and the limit that it exceeds by itself. `certain`: without the buckets to which something may return.
local function hold_of(node, costs, at, certain)
  local longest, binding, slots, excess = 0, nil, nil, nil
  for _, limit in ipairs(node.limits) do
    if limit.kind == CONCURRENCY then
      slots = node.held >= limit.amount and limit or nil
    else
      local units = costs[UNITS[limit.kind]]
      if units > limit.cap then
        if not excess and is_excess(limit, units) then excess = limit end
        units = limit.cap
      end
      local wanted = units * limit.den
      if units > 0 and wanted > limit.level and not (certain and may_return(node, limit)) then
        local delay = refill_time(limit, wanted, at)
        if delay > longest then longest, binding = delay, limit end
      end
    end
  end
  return {
    delay = longest, bucket = binding, slots = slots, excess = excess,
    fits = longest == 0 and not slots and not excess,
  }
end

-- Take a slot and what a request costs; the marks by which it can be credited are added to `marks`.
local function charge(node, costs, marks)
  local before = #marks
  for kind = 1, BUCKETS do marks[before + kind] = 0 end
  node.held = node.held + 1
  for _, limit in ipairs(node.limits) do
    local kind = limit.kind
    if kind ~= CONCURRENCY and costs[UNITS[kind]] > 0 then
      buckets.take(limit, costs[UNITS[kind]])
      marks[before + kind] = limit.charges
    end
  end
end

-- Undo a charge: the request was never sent.
local function uncharge(node, charged, marks, before)
  node.held = node.held - 1
  for _, limit in ipairs(node.limits) do
    local kind = limit.kind
    if kind ~= CONCURRENCY then buckets.credit(limit, charged[UNITS[kind]], marks[before + kind] or 0) end
  end
end

local function full_reserve(reserve)
  return max(1, floor(reserve / 6)) * MINUTE
end

-- Bring a reserve (requests per minute, up to ten seconds' worth at once) to the present; whether one is there.
local function refill_reserve(flow, now)
  if flow.reserve == 0 then return false end
  local elapsed = min(now - flow.at, MINUTE)
  flow.level, flow.at = min(full_reserve(flow.reserve), flow.level + flow.reserve * elapsed), now
  return flow.level >= MINUTE
end

-- Start with all that a reserve holds at once.
local function fill_reserve(flow, reserve, now)
  flow.level, flow.at = full_reserve(reserve), now
end

-- The largest fraction that a request takes of any of a node's limits, in millionths (DRF).
local function dominant_share(node, costs)
  local share = 0
  for _, limit in ipairs(node.limits) do
    local units = limit.kind == CONCURRENCY and 1 or costs[UNITS[limit.kind]]
    share = max(share, floor(min(units, limit.amount) * SHARE / limit.amount))
  end
  return share
end

-- A limit for people; `available` counts whole units.
local function shown(name, node, limit)
  local available = floor(limit.level / limit.den)
  if limit.kind == CONCURRENCY then available = limit.amount - node.held end
  return {
    node = name, kind = kinds.KINDS[limit.kind], source = kinds.SOURCES[limit.source], amount = limit.amount,
    burst = limit.burst, period = limit.period, available = available, guard = limit.burst - limit.cap,
  }
end

return {
  is_exact = is_exact, new_limit = new_limit, start_low = start_low, carry_over = carry_over, of_kind = of_kind,
  hold_of = hold_of, charge = charge, uncharge = uncharge, refill_reserve = refill_reserve,
  fill_reserve = fill_reserve, dominant_share = dominant_share, shown = shown,
}
