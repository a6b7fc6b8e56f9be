-- Where operations and the learner meet: which records begin, what becomes of them, when they are to be looked at (as
-- rules/learning_desk.py; its rules 1 to 7 hold here).

local buckets = require "buckets"
local estimates = require "learning_estimate"
local kinds = require "kinds"
local learners = require "learning"
local ledger = require "ledger"
local limits = require "limits"
local notes = require "learning_notes"
local publications = require "publications"
local rates = require "learning_rate"
local records = require "learning_records"
local risks = require "learning_risk"
local simples = require "learning_simple"
local slots = require "learning_concurrency"
local usage = require "usage"
local values = require "learning_values"

local PLACE = { tokens = 2, input_tokens = 3, output_tokens = 4 } -- of a kind of tokens in a permit's costs
local MOST_GUESSED = 2 ^ 20 -- a guess of calls at once grows up to here
local MADE_UP = SECOND / 2
local LONGEST_LISTENED = 2 * SECOND

local UNIT, LOWEST, HIGHEST = values.UNIT, values.LOWEST, values.HIGHEST
local floor, max, min = math.floor, math.max, math.min
local mark, stamp, with = values.mark, values.stamp, values.with

-- What instances that say different things want together, or nil; each says false where it wants nothing.
local function agreed(said)
  local plain, together = {}, nil
  for _, one in ipairs(said) do
    if not one then return nil end
    if one.simple then table.insert(plain, one) end
    together = together or { lowest = one.lowest, highest = one.highest, predicts = false }
    together.lowest, together.highest = min(together.lowest, one.lowest), min(together.highest, one.highest)
    together.predicts = together.predicts or one.predicts
  end
  if not together then return nil end
  local first = plain[1] or said[1]
  together.simple, together.reduction, together.recovery = first.simple, first.reduction, first.recovery
  for _, one in ipairs(#plain > 0 and plain or said) do
    together.reduction = min(together.reduction, one.reduction)
    together.recovery = min(together.recovery, one.recovery)
  end
  together.lowest = min(together.highest, together.lowest)
  return together
end

-- A configured ceiling, or none.
local function or_highest(figure)
  return figure > 0 and figure or HIGHEST
end

-- --- beginning -----------------------------------------------------------------------------------------------------

-- The settings of mode `simple`.
local function factors(settings, ceiling)
  local highest = min(settings.highest, or_highest(ceiling))
  return {
    reduction = settings.reduction, recovery = settings.recovery, lowest = min(settings.lowest, highest),
    highest = highest,
  }
end

local function bounded(learned, learner)
  local settings, requests = learned.settings, learner.requests
  local rate = min(max(requests.rate, settings.lowest), settings.highest, or_highest(learned.ceiling))
  if rate == requests.rate then return learner end
  return with(learner, { requests = with(requests, { rate = rate }) })
end

-- Begin anew with the rate of the mode `simple`.
local function measured_again(learned, now, granted)
  local rejections = learned.learner.requests.rejections
  local learner = learners.new_learner(learned.simple.rate, now, granted - rejections)
  return with(learner, { requests = with(learner.requests, { rejections = rejections }) })
end

-- Follow the settings: another mode begins anew with the present rate.
local function adapt(learned, settings, now, granted)
  if settings.simple and not learned.simple then
    learned.simple = { rate = learned.learner.requests.rate, changed = now }
    learned.recovered = granted - learned.learner.requests.rejections
  elseif not settings.simple and learned.simple then
    learned.learner, learned.simple = measured_again(learned, now, granted), false
  end
  learned.settings = settings
  learned.learner = bounded(learned, learned.learner)
  if learned.simple then
    local bounds = factors(settings, learned.ceiling)
    local rate = max(bounds.lowest, min(learned.simple.rate, bounds.highest))
    learned.simple = { rate = rate, changed = learned.simple.changed }
  end
end

-- Learn from now on, starting with a rate at which `used` requests went in the last minute.
local function begin(name, settings, rate, used)
  local node, now = ledger.new_node(name), ledger.now
  rate = values.sane(rate)
  local since = used > 0 and now - MINUTE or now
  local learned = records.new({
    learner = learners.new_learner(rate, since, node.granted - used), settings = settings, started = rate,
    changed_at = ledger.at.wall, reason = "start",
  })
  adapt(learned, settings, now, node.granted)
  ledger.add_learned(name, learned)
  return learned
end

-- The provider states this rate (0: none); of several, the strictest.
local function told_is(learned, node, now, rate)
  local requests = learned.learner.requests
  if rate == requests.told then return end
  if rate == 0 then
    learned.learner = with(learned.learner, { requests = with(requests, { told = 0, doubted = 0 }) })
  else
    learned.learner = learners.header_told(learned.learner, now, node.granted, rate)
  end
  if learned.simple and rate > 0 and learned.learner.requests.doubted == 0 then
    learned.simple = { rate = rate, changed = now }
  end
  learned.learner = bounded(learned, learned.learner)
end

-- The provider named its limit of calls at once: no guess is above it.
local function slots_are_told(learned, cap)
  local held = learned.learner.slots
  if held.cap == 0 or held.cap > cap then
    learned.learner = with(learned.learner, { slots = slots.told(held, cap) })
  end
end

-- --- what has changed ----------------------------------------------------------------------------------------------

local function note(learned, why, name)
  learned.reason, learned.changed_at = why, ledger.at.wall
  learned.unkept = learned.unkept or learned.learner.requests.rejections > 0
  notes.announce(learned, name)
end

local function rate_of_tokens(learner)
  return learner.tokens and learner.tokens.rate
end

-- Keep a learner's new record; whether limits follow from it that are other than before.
local function take(learned, new, name, why)
  local old = learned.learner
  new = bounded(learned, new)
  learned.learner = new
  if new.slots.cap > 0 then learned.slots = 0 end
  local is_paced_alike = old.requests.rate == new.requests.rate and old.slots.cap == new.slots.cap
    and rate_of_tokens(old) == rate_of_tokens(new)
  if is_paced_alike and old.requests.doubted == new.requests.doubted then return false end
  note(learned, why or notes.reason_of(old, new), name)
  return true
end

-- --- grants and successes ------------------------------------------------------------------------------------------

-- Tell the node which successes are notable; none of them puts off the step that is due.
local function heed(learned, node)
  local held = learned.learner.slots
  if learned.simple or (held.cap == 0 and #held.samples == 0) then
    node.notable = FOREVER
  else
    node.notable = held.cap > 0 and min(held.highest, held.cap - 1) or held.highest
  end
end

-- Tell the node which grants and successes are the learner's business.
local function watch(learned, node, now)
  heed(learned, node)
  if learned.simple then
    node.watch = learned.listen > 0 and 0 or learned.simple.changed + SECOND
    return
  end
  local is_watched = learned.learner.tokens or learned.listen > 0
  node.watch = is_watched and 0 or rates.watched_from(learned.learner.requests, now)
end

-- Keep the others back while the first request after a pause is on its way.
local function listen(learned, account, now)
  if learned.listen == 0 then return end
  account.paused_until = max(account.paused_until, now + learned.listen)
  learned.listen = 0
end

-- Count for the risk; whether another cut follows from it.
local function foresee(learned, node, now, rejections)
  learned.risk = risks.counted(learned.risk, now, max(0, node.granted - learned.counted), rejections)
  learned.counted = node.granted
  local before = learned.cut
  learned.cut = learned.settings.predicts and risks.proactive_cut(learned.risk, now) or 0
  return learned.cut ~= before
end

local function token_stamp(learned, permit, now)
  if not learned.learner.tokens or not learned.token_kind then return nil end
  local units, before = permit.costs[PLACE[learned.token_kind]], learned.spent
  permit.stamp[4] = before
  learned.spent = before + units
  return stamp(before, now, 0, max(1, units))
end

local function grow(learned, node, name, stamp, tokens)
  local now = ledger.now
  local most = {
    requests = min(learned.settings.highest, or_highest(learned.ceiling)), slots = learned.most_slots,
    tokens = or_highest(learned.most_tokens),
  }
  local new = learners.granted(learned.learner, now, stamp, tokens, most)
  if learned.learner.slots.tried > 0 and new.slots.tried == 0 then buckets.drain(node, "requests", now) end
  local changed = take(learned, new, name)
  if learned.slots > 0 and node.held >= learned.slots and now - learned.slots_at >= rates.STEP then
    learned.slots, learned.slots_at = min(2 * learned.slots, MOST_GUESSED), now
    changed = true
  end
  return changed
end

-- Mode `simple`: a step each second, above the first rate only while the rate is used.
local function recover(learned, node, name)
  local simple, now = learned.simple, ledger.now
  local count = node.granted - learned.learner.requests.rejections - learned.recovered
  if now - simple.changed < SECOND or count < 1 then return false end
  local is_used = values.per_minute(count, now - simple.changed) >= values.part(simple.rate, rates.BUSY)
  learned.recovered = learned.recovered + count
  local new = simples.accepted(simple, now, factors(learned.settings, learned.ceiling))
  if not is_used then new = { rate = max(simple.rate, min(new.rate, learned.started)), changed = now } end
  learned.simple = new
  if new.rate ~= simple.rate then note(learned, "recovered", name) end
  return new.rate ~= simple.rate
end

-- A request goes at a node that is to be watched; whether its limits are to be set anew.
local function granted(name, node, permit, stamp)
  local learned = ledger.learned(name)
  if not learned then return false end
  listen(learned, ledger.new_node(permit.account), ledger.now)
  local has_cut = foresee(learned, node, ledger.now, 0)
  local changed
  if learned.simple then
    changed = recover(learned, node, name)
  else
    changed = grow(learned, node, name, stamp, token_stamp(learned, permit, ledger.now))
  end
  watch(learned, node, ledger.now)
  return has_cut or changed
end

-- A notable success; whether limits are to be set anew.
local function succeeded(name, node, stamp)
  local learned = ledger.learned(name)
  if not learned then return false end
  local changed = take(learned, learners.succeeded(learned.learner, stamp), name)
  heed(learned, node)
  return changed
end

-- --- overloads -----------------------------------------------------------------------------------------------------

-- What a permit remembers of its grant.
local function stamp_of(permit)
  return stamp(permit.stamp[1], permit.stamp[2], permit.stamp[3])
end

-- The live instances of an account, and how they want its limits learned.
local function settings_of(account)
  local said = {}
  for place, spec in ipairs(publications.specs_of(account)) do said[place] = spec.learning or false end
  return publications.publishers_of(account), agreed(said)
end

-- The requests of the last minute, of an account's live instances.
local function used_at(account, incarnations)
  local used = 0
  for _, incarnation in ipairs(incarnations) do
    local flow = ledger.flow(account, incarnation)
    if flow then used = used + usage.recent(flow.used, flow.slot, ledger.now) end
  end
  return used
end

-- What is learned at a node, or false; its first overload begins it where a user configured the limit.
local function overloaded(name)
  local learned = ledger.learned(name)
  if learned then return learned end
  local account = string.match(name, "^[^#]*")
  local incarnations, settings = settings_of(account)
  local limit = limits.of_kind(ledger.new_node(name), REQUESTS) or limits.of_kind(ledger.new_node(account), REQUESTS)
  if not settings or not limit then return false end
  local rate = values.rate_of(limit)
  return begin(name, settings, rate, min(used_at(account, incarnations), floor(rate / UNIT)))
end

-- The µs to wait after a permit's rejection; nil where the learner does not measure.
local function pause_of(name, permit, kind, draw)
  local learned = overloaded(name)
  if not learned or learned.simple then return nil end
  return learners.pause_of(learned.learner, ledger.now, stamp_of(permit), kind, draw)
end

-- The rejected permit as its tokens' rate sees it; a rate of tokens begins with what was used of late.
local function tokens_rejected(learned, node, permit, kind, now)
  local size = max(1, permit.costs[PLACE[kind]])
  if learned.learner.tokens and learned.token_kind == kind then
    return stamp(permit.stamp[4], permit.stamp[2], 0, size)
  end
  local requests = learned.learner.requests
  local count = node.granted - requests.rejections - requests.climb.count
  local seen = values.per_minute(count, max(SECOND, now - requests.climb.at))
  local limit = limits.of_kind(node, kinds.KIND[kind])
  local most = limit and values.rate_of(limit) or HIGHEST
  local rate = max(LOWEST, min(max(seen, UNIT) * size, requests.rate * size, most))
  learned.token_kind, learned.spent = kind, floor(rate / UNIT)
  local tokens = rates.new_rate({ rate = rate, step = mark(now, learned.spent), climb = mark(now - MINUTE, 0) })
  learned.learner = with(learned.learner, { tokens = tokens })
  return stamp(learned.spent, permit.stamp[2], 0, size)
end

local function count_rejected(learned)
  local requests = learned.learner.requests
  learned.learner = with(learned.learner, { requests = with(requests, { rejections = requests.rejections + 1 }) })
end

local function reduce(learned, name, moved, kind)
  count_rejected(learned)
  if not moved or (kind and kind ~= "requests") then return false end
  learned.simple = simples.rejected(learned.simple, ledger.now, factors(learned.settings, learned.ceiling))
  note(learned, "reduced", name)
  return true
end

-- A permit met 429; whether limits are to be set anew. The pause is that of its account. `moved`: it is the first of
-- its epoch; `told`: the provider said how long to wait; `kind`: which limit it named.
local function rejected(name, permit, moved, told, kind)
  local learned = overloaded(name)
  if not learned then return false end
  local node, now, changed = ledger.new_node(name), ledger.now, nil
  local has_cut = foresee(learned, node, now, 1)
  if kind == "concurrency" then learned.slots = 0 end
  if moved then learned.listen = min(floor((now - permit.stamp[2]) * 5 / 4), LONGEST_LISTENED) end
  if learned.simple then
    changed = reduce(learned, name, moved, kind)
  else
    local how = { resume = ledger.new_node(permit.account).paused_until, moved = moved, told = told, kind = kind }
    if PLACE[kind or ""] then how.tokens = tokens_rejected(learned, node, permit, kind, now) end
    local new = learners.rejected(learned.learner, now, stamp_of(permit), how)
    local is_confirmed = estimates.confirms(learned.learner.requests, new.requests)
    changed = take(learned, new, name, "overload")
    if is_confirmed then buckets.refill_from(node, REQUESTS, max(now, how.resume - MADE_UP)) end
  end
  watch(learned, node, now)
  return changed or has_cut
end

-- A permit of one of an account's groups met 429: it was not accepted, and that is all that is known here.
local function count_below(name)
  local learned = ledger.learned(name)
  if learned then count_rejected(learned) end
end

-- A permit's call timed out; whether limits are to be set anew.
local function timed_out(name, permit)
  local learned = overloaded(name)
  if not learned or learned.simple then return false end
  local new = learners.timed_out(learned.learner, ledger.now, stamp_of(permit))
  local changed = take(learned, new, name, "timeout")
  watch(learned, ledger.new_node(name), ledger.now)
  return changed
end

return {
  agreed = agreed, adapt = adapt, begin = begin, told_is = told_is, slots_are_told = slots_are_told, watch = watch,
  granted = granted, succeeded = succeeded, stamp_of = stamp_of, pause_of = pause_of, rejected = rejected,
  count_below = count_below, timed_out = timed_out,
}
