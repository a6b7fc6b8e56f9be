-- How many requests met 429 lately, the risk this implies, and the cut that would answer it (as
-- rules/learning_risk.py): twelve slots of five minutes, the present one last; `slot` is its number.

local values = require "learning_values"

local SLOT, SLOTS = 5 * MINUTE, 12
local CERTAIN, MOST_CUT = 50000, 200000
local SPANS = { { slots = 2, weight = 5 }, { slots = 6, weight = 3 }, { slots = 12, weight = 2 } }
local WHOLE = values.WHOLE
local floor, max, min = math.floor, math.max, math.min

local function new_risk()
  local risk = { slot = 0, sent = {}, rejected = {} }
  for place = 1, SLOTS do risk.sent[place], risk.rejected[place] = 0, 0 end
  return risk
end

-- The record with the present slot last.
local function turned(record, now)
  local present = floor(now / SLOT)
  local shift = min(SLOTS, max(0, present - record.slot))
  if shift == 0 then return record end
  local new = { slot = present, sent = {}, rejected = {} }
  for place = 1, SLOTS do
    new.sent[place] = record.sent[place + shift] or 0
    new.rejected[place] = record.rejected[place + shift] or 0
  end
  return new
end

local function copied(list)
  return { unpack(list) }
end

-- Add what was sent, and what of it was rejected.
local function counted(record, now, sent, rejected)
  local last = turned(record, now)
  local new = { slot = last.slot, sent = copied(last.sent), rejected = copied(last.rejected) }
  new.sent[SLOTS] = new.sent[SLOTS] + max(0, sent)
  new.rejected[SLOTS] = new.rejected[SLOTS] + max(0, rejected)
  return new
end

local function sum_of_last(list, slots)
  local sum = 0
  for place = SLOTS - slots + 1, SLOTS do sum = sum + list[place] end
  return sum
end

-- The ppm of requests that met 429 in the last 10, 30 and 60 minutes.
local function shares(record, now)
  local last, found = turned(record, now), {}
  for place, span in ipairs(SPANS) do
    local rejected, sent = sum_of_last(last.rejected, span.slots), sum_of_last(last.sent, span.slots)
    found[place] = min(WHOLE, floor(rejected * WHOLE / max(1, sent)))
  end
  return found
end

-- The risk in ppm.
local function risk(record, now)
  local weighed, weights = 0, 0
  for place, share in ipairs(shares(record, now)) do
    weighed, weights = weighed + share * SPANS[place].weight, weights + SPANS[place].weight
  end
  return min(WHOLE, floor(floor(weighed / weights) * WHOLE / CERTAIN))
end

-- The ppm by which to reduce the rate beforehand.
local function proactive_cut(record, now)
  return floor(MOST_CUT * risk(record, now) / WHOLE)
end

return { new_risk = new_risk, counted = counted, shares = shares, risk = risk, proactive_cut = proactive_cut }
