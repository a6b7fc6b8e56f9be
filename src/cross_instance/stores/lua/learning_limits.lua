-- The limits that follow from what is learned, and what of it is kept (as rules/learning_limits.py; its rules 1 to 5
-- hold here). Specs have the form in which they are sent.
--
-- On a server everything outlives a boot, so the durable copy, under "K", stands beside the record; both go with their
-- namespace.

local concurrency = require "learning_concurrency"
local desk = require "learning_desk"
local kinds = require "kinds"
local ledger = require "ledger"
local rates = require "learning_rate"
local records = require "learning_records"
local tables = require "tables"
local values = require "learning_values"

local LONG = 10 * MINUTE
local MOST_TOKENS = 1000000000
local HIGHEST_PACED = 100000000000

local UNIT = values.UNIT
local floor, max, min = math.floor, math.max, math.min
local mark, part, rate_of = values.mark, values.part, values.rate_of

-- What a node was told, without what the learner doubts; the learner is told of it first.
local function believed(name, told)
  local learned = ledger.learned(name)
  if not learned then return told end
  local rate, others = 0, {}
  for _, spec in ipairs(told) do
    if spec.kind ~= "requests" then
      table.insert(others, spec)
    else
      rate = rate > 0 and min(rate, rate_of(spec)) or rate_of(spec)
    end
  end
  desk.told_is(learned, ledger.new_node(name), ledger.now, rate)
  return learned.learner.requests.doubted > 0 and others or told
end

-- --- the durable copy ----------------------------------------------------------------------------------------------

local function kept_key(name)
  return tables.named("K", name)
end

-- Write what is learned at a node into its durable copy; whether there was anything new.
local function keep(name)
  local learned = ledger.learned(name)
  if not learned or not learned.unkept then return false end
  learned.unkept = false
  if not tables.get(kept_key(name)) then tables.index(kept_key(name)) end
  tables.put(kept_key(name), records.write_kept(ledger.at.wall, learned))
  return true
end

-- Go on from the durable copy, or false where there is none. Its instants may be of long ago: only figures are taken.
local function resume(name, settings)
  local value = tables.get(kept_key(name))
  if not value then return false end
  local kept_at, old = records.read_kept(value)
  local granted, now, age = ledger.new_node(name).granted, ledger.now, max(0, ledger.at.wall - kept_at)
  local of = old.learner
  local learned = records.new({
    learner = {
      requests = rates.resumed(of.requests, now, granted, age),
      tokens = of.tokens and rates.resumed(of.tokens, now, 0, age), epoch = 0,
      slots = concurrency.new_slots({
        cap = of.slots.cap, due = mark(now + rates.REST, granted), proven = of.slots.cap,
      }),
    },
    settings = settings, started = old.started, simple = old.simple and { rate = old.simple.rate, changed = now },
    recovered = granted, token_kind = old.token_kind, counted = granted, reason = "resumed", changed_at = kept_at,
  })
  ledger.add_learned(name, learned)
  return learned
end

-- --- in force ------------------------------------------------------------------------------------------------------

local function begin(name, settings, by_kind)
  local requests = by_kind.requests
  if not requests or requests.source == "configured" then return false end
  local learned = desk.begin(name, settings, rate_of(requests), 0)
  if requests.source == "told" then desk.told_is(learned, ledger.new_node(name), ledger.now, rate_of(requests)) end
  return learned
end

local function configured(spec)
  return spec and spec.source == "configured"
end

-- Let the learner know what is configured, told and guessed beside it.
local function bind(learned, by_kind, now)
  local requests, slots = by_kind.requests, by_kind.concurrency
  local tokens = learned.token_kind and by_kind[learned.token_kind]
  learned.ceiling = configured(requests) and rate_of(requests) or 0
  learned.most_slots = configured(slots) and slots.amount or 0
  learned.most_tokens = configured(tokens) and rate_of(tokens) or 0
  if slots and slots.source == "told" then
    desk.slots_are_told(learned, slots.amount)
  elseif slots and slots.source == "guess" and learned.slots == 0 and learned.slots_at == 0 then
    learned.slots, learned.slots_at = slots.amount, now
  end
end

-- The rate of requests that is paced.
local function allowed(learned)
  local rate = learned.simple and learned.simple.rate or learned.learner.requests.rate
  return learned.cut > 0 and max(UNIT, rate - part(rate, learned.cut)) or rate
end

-- Whether the published or told limit is in force as it is.
local function stands(learned, base, rate)
  local requests = learned.learner.requests
  if base.source == "configured" then return rate >= rate_of(base) end
  if base.source == "told" and learned.cut == 0 then
    local is_known = requests.estimate == 0 or requests.estimate == requests.told
    return rate >= part(requests.told, rates.CRUISE_SHARE) and is_known
  end
  return rate == rate_of(base) and (learned.simple or requests.phase == rates.START)
end

-- A learned limit; what it returns is as at the one in whose place it stands. A configured burst is a ceiling, too.
local function learned_spec(kind, amount, burst, period, base)
  if configured(base) then burst = min(burst, base.burst) end
  return {
    kind = kind, amount = amount, burst = burst, period = period, source = "learned",
    correct = not base or base.correct, refund = not base or base.refund,
  }
end

local function requests_in_force(learned, base)
  local rate = min(allowed(learned), HIGHEST_PACED)
  if base and stands(learned, base, rate) then return base end
  local burst = max(1, floor(floor(rate / UNIT) / 60))
  local is_untouched = not learned.simple and learned.learner.requests.phase == rates.START
  if base and is_untouched then burst = max(burst, base.burst) end
  return learned_spec("requests", max(1, floor(rate * (LONG / MINUTE) / UNIT)), burst, LONG, base)
end

local function slots_in_force(learned, base)
  local cap, is_guess = learned.learner.slots.cap, base and base.source == "guess"
  if is_guess and cap == 0 then cap = learned.slots end
  if cap == 0 or (base and (cap == base.amount or (cap > base.amount and not is_guess))) then return base end
  return learned_spec("concurrency", cap, 0, 0)
end

local function tokens_in_force(learned, kind, base)
  local rate = learned.learner.tokens
  if not rate or (base and rate.rate >= rate_of(base)) then return base end
  local amount = max(1, min(floor(rate.rate / UNIT), MOST_TOKENS))
  return learned_spec(kind, amount, max(1, floor(amount / 6)), MINUTE, base)
end

-- What is in force at a node where these limits are published or told; `settings`: how to learn, or nil.
local function follow(name, specs, settings)
  local node, by_kind = ledger.new_node(name), {}
  if not settings then
    if ledger.learned(name) then ledger.drop_learned(name) end
    node.watch, node.notable = FOREVER, FOREVER
    return specs
  end
  for _, spec in ipairs(specs) do by_kind[spec.kind] = spec end
  local learned = ledger.learned(name) or resume(name, settings) or begin(name, settings, by_kind)
  if not learned then return specs end
  bind(learned, by_kind, ledger.now)
  desk.adapt(learned, settings, ledger.now, node.granted)
  desk.watch(learned, node, ledger.now)
  by_kind.requests = requests_in_force(learned, by_kind.requests)
  by_kind.concurrency = slots_in_force(learned, by_kind.concurrency)
  local kind = learned.token_kind
  if kind then by_kind[kind] = tokens_in_force(learned, kind, by_kind[kind]) end
  local chosen = {}
  for _, each in ipairs(kinds.KINDS) do
    if by_kind[each] then table.insert(chosen, by_kind[each]) end
  end
  return chosen
end

return { believed = believed, follow = follow, allowed = allowed, keep = keep, kept_key = kept_key }
