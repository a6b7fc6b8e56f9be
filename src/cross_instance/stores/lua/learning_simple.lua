-- The guide's own rule, mode `simple`: times a factor after an overload, times another one while things go well (as
-- rules/learning_simple.py). `factors` are { reduction, recovery, lowest, highest }.

local values = require "learning_values"

local max, min = math.max, math.min

local function bounded(rate, factors)
  return max(factors.lowest, min(values.sane(rate), factors.highest))
end

-- A request succeeded.
local function accepted(record, now, factors)
  if now - record.changed < SECOND then return record end
  return { rate = bounded(values.part(record.rate, factors.recovery), factors), changed = now }
end

-- The first rejection of an epoch.
local function rejected(record, now, factors)
  return { rate = bounded(values.part(record.rate, factors.reduction), factors), changed = now }
end

return { accepted = accepted, rejected = rejected }
