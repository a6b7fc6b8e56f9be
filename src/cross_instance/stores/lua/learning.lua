-- The learner of hidden limits: one record for each account, provider and model group (as rules/learning.py; its rules
-- 1 to 5 hold here). Kinds have the names by which they are sent; where none is named it is nil.

local estimate = require "learning_estimate"
local rates = require "learning_rate"
local slots = require "learning_concurrency"
local values = require "learning_values"

local TOKENS = { tokens = true, input_tokens = true, output_tokens = true }
local AGREES = 100000

local WHOLE, UNIT, LOWEST, HIGHEST = values.WHOLE, values.UNIT, values.LOWEST, values.HIGHEST
local floor, max, min = math.floor, math.max, math.min
local part, with = values.part, values.with

-- Begin with a preset or a guess.
local function new_learner(rate, now, serial)
  return { requests = rates.start(rate, now, serial), tokens = false, slots = slots.new_slots({}), epoch = 0 }
end

-- As high as where the last overload was met, and growing while it is used.
local function let_go(rate)
  return with(rate, { rate = max(rate.rate, rate.block.met), phase = rates.SEARCH, gain = rates.SEARCH_GAIN })
end

-- After a trial that has failed: again at the estimate, and climbing where that is not confirmed.
local function regained(rate)
  if rate.phase ~= rates.SEARCH or rate.estimate == 0 then return rate end
  local phase = rate.learning > 0 and rates.CLIMB or rates.CRUISE
  return with(rates.cruising(rate), { phase = phase, gain = rates.CLIMB_GAIN, survived = 0 })
end

-- A request goes. `stamp` counts requests, `tokens` tokens; `most` holds the ceiling (requests), slots and tokens that
-- the user configured.
local function granted(record, now, stamp, tokens, most)
  local requests = rates.granted(record.requests, now, stamp.serial, most.requests)
  local held = slots.granted(record.slots, now, stamp, most.slots)
  if record.slots.tried > 0 and held.tried == 0 then requests = regained(requests) end
  local learned = record.tokens
  if learned and tokens then learned = rates.granted(learned, now, tokens.serial, most.tokens) end
  return with(record, { requests = requests, slots = held, tokens = learned })
end

-- A request was answered.
local function succeeded(record, stamp)
  return with(record, { slots = slots.succeeded(record.slots, stamp) })
end

-- The µs to wait after the first rejection of an epoch where the provider did not say.
local function pause_of(record, now, stamp, kind, draw)
  local accepted = stamp.serial - record.requests.rejections
  if slots.is_retry(record.slots, accepted) then return estimate.blind_pause(record.slots.retries + 1, draw) end
  if kind == "requests" or (not kind and not slots.is_own(record.slots, stamp, accepted)) then
    return estimate.pause(record.requests, now, stamp, draw)
  end
  return estimate.blind_pause(estimate.next_row(record.requests, stamp), draw)
end

local function count_rejected(rate, size)
  return with(rate, { rejections = rate.rejections + size })
end

-- The tokens' rate answers; without one, begin with as many tokens as the present rate of such requests takes.
local function by_tokens(record, now, stamp, tokens, resume, told)
  local sized = max(LOWEST, min(record.requests.rate * tokens.size, HIGHEST))
  local learned = record.tokens or rates.start(sized, now - MINUTE, max(0, tokens.serial - floor(sized / UNIT)))
  return with(record, {
    requests = count_rejected(record.requests, stamp.size),
    tokens = estimate.rejected(learned, now, tokens, resume, told),
  })
end

-- The slots answer. `is_freed`: the overloads before were taken for the rate's, but were theirs: it is looked for anew.
local function by_slots(record, now, stamp, is_freed)
  local rate = record.requests
  if is_freed then
    local fresh = rates.start(max(rate.rate, LOWEST), now, stamp.serial - rate.rejections)
    rate = let_go(with(fresh, { rejections = rate.rejections }))
  end
  return with(record, { requests = count_rejected(rate, stamp.size) })
end

local function doubting(rate)
  if rate.told > 0 and rate.doubted == 0 and rate.estimate < part(rate.told, WHOLE - AGREES) then
    return with(rate, { doubted = 1 })
  end
  return rate
end

local function echoed(record, now, stamp, tokens)
  return with(record, {
    requests = estimate.echoed(record.requests, stamp),
    tokens = record.tokens and tokens and estimate.echoed(record.tokens, tokens) or record.tokens,
    slots = slots.echoed(record.slots, now),
  })
end

-- Whether a rejection may speak of slots: the first of its block, and not of a full window.
local function is_sample(rate, stamp)
  return estimate.next_row(rate, stamp) == 0 and not estimate.meets_full_window(rate, stamp)
end

-- A request met 429. `how.moved`: it is the first of its epoch; `told`: the provider said so; `kind`: what it named;
-- `tokens`: the request's stamp in tokens, or nil; `resume`: when the pause ends.
local function rejected(record, now, stamp, how)
  local kind, resume, told = how.kind, how.resume, how.told
  if not how.moved then return echoed(record, now, stamp, how.tokens) end
  record = with(record, { epoch = record.epoch + 1 })
  local accepted = stamp.serial - record.requests.rejections
  local is_own = kind == "concurrency" or (not kind and slots.is_own(record.slots, stamp, accepted))
  local was_tried = not kind and record.slots.tried > 0
  local is_sampled = not kind and not slots.is_retry(record.slots, accepted) and is_sample(record.requests, stamp)
  if is_own or was_tried or is_sampled then
    local held = slots.rejected(record.slots, now, stamp, accepted, kind ~= nil)
    record = with(record, { slots = held })
    if held.cap > 0 and held.tried == 0 and (is_own or was_tried) then
      return by_slots(record, now, stamp, was_tried)
    end
  end
  if TOKENS[kind or ""] and how.tokens then return by_tokens(record, now, stamp, how.tokens, resume, told) end
  local requests = doubting(estimate.rejected(record.requests, now, stamp, resume, told))
  if not kind then requests = record.slots.tried > 0 and let_go(requests) or regained(requests) end
  return with(record, { requests = requests })
end

-- A request timed out.
local function timed_out(record, now, stamp)
  return with(record, { slots = slots.timed_out(record.slots, now, stamp, record.epoch) })
end

-- Whether what was measured, and what was let in since the present climb began, is possible under a limit.
local function agrees(rate, now, serial, limit)
  if rate.estimate > 0 and rate.learning == 0 and rate.told == 0 then
    return math.abs(rate.estimate - limit) <= part(limit, AGREES)
  end
  local seen = values.per_minute(serial - rate.rejections - rate.climb.count, max(MINUTE, now - rate.climb.at))
  return seen <= part(limit, WHOLE + AGREES)
end

-- The provider stated a limit. Believed while the counts agree; absurd figures are not.
local function header_told(record, now, serial, limit)
  local rate = record.requests
  if limit < LOWEST or limit > HIGHEST or limit == rate.told then return record end
  rate = with(rate, { told = limit, doubted = agrees(rate, now, serial, limit) and 0 or 1 })
  if rate.doubted == 0 then rate = rates.cruising(with(rate, { estimate = limit, learning = 0 })) end
  return with(record, { requests = rate })
end

return {
  new_learner = new_learner, granted = granted, succeeded = succeeded, pause_of = pause_of, rejected = rejected,
  timed_out = timed_out, header_told = header_told,
}
