-- What is said of what was learned: notices of changes, and the state for people, with its evidence (as
-- rules/learning_notes.py).

local ledger = require "ledger"
local rates = require "learning_rate"
local risks = require "learning_risk"
local values = require "learning_values"

local NEWS = 50000
local UNIT = values.UNIT

local function is_same(one, other)
  if type(one) ~= "table" or type(other) ~= "table" then return one == other end
  for name, value in pairs(one) do
    if not is_same(value, other[name]) then return false end
  end
  return #one == #other
end

-- Why a grant or a success has changed what is known. Grants begin a climb only after idling.
local function reason_of(old, new)
  if not is_same(new.slots, old.slots) and is_same(new.requests, old.requests) then return "slots" end
  local before, after = old.requests, new.requests
  if after.phase == rates.CLIMB and not is_same(after.climb, before.climb) then return "idle" end
  return after.rate > before.rate and "growth" or "cruise"
end

local function is_news(before, after)
  return after ~= 0 and math.abs(after - before) > values.part(before, NEWS)
end

-- A rate with separators of thousands; a small one with one decimal.
local function figure(rate)
  local text = string.format(rate >= 100 * UNIT and "%.0f" or "%.1f", rate / UNIT)
  local count = 1
  while count > 0 do text, count = string.gsub(text, "^(%d+)(%d%d%d)", "%1,%2") end
  return text
end

local function sentence(learned)
  local requests, slots, parts = learned.learner.requests, learned.learner.slots, {}
  if learned.simple then return figure(learned.simple.rate) .. " requests/min (" .. learned.reason .. ")" end
  if requests.doubted > 0 and learned.announced[3] > 0 then
    return "the counts contradict the stated limit of " .. figure(requests.told) .. "/min"
  end
  if requests.phase == rates.SEARCH then
    table.insert(parts, "the first 429; looking for the limit from " .. figure(requests.rate) .. " requests/min on")
  elseif requests.estimate > 0 then
    table.insert(parts, "the limit is taken to be " .. figure(requests.estimate) .. " requests/min")
  end
  if slots.cap > 0 then table.insert(parts, string.format("%.0f calls at once", slots.cap)) end
  return table.concat(parts, ", ")
end

-- Tell of a change, where it is news: probes and steps back from them are none.
local function announce(learned, name)
  local requests = learned.learner.requests
  local known = requests.estimate
  if learned.simple then
    known = learned.simple.rate
  elseif requests.phase == rates.SEARCH then
    known = requests.rate
  end
  local now, before = { known, learned.learner.slots.cap, requests.doubted }, learned.announced
  if not (is_news(before[1], now[1]) or is_news(before[2], now[2]) or is_news(before[3], now[3])) then return end
  learned.announced = now
  table.insert(ledger.notices, { topic = "limit-learned", text = name .. ": " .. sentence(learned) })
end

-- What is learned at a node, with its evidence; `rate` is what is allowed of it.
local function state_of(learned, node, rate)
  local requests, slots, tokens = learned.learner.requests, learned.learner.slots, learned.learner.tokens
  local first, last, now = requests.start, requests.finish, ledger.now
  return {
    simple = learned.simple and true or false, started = learned.started, ceiling = learned.ceiling,
    told = requests.told, doubted = requests.doubted > 0, rate = rate, estimate = requests.estimate,
    phase = learned.simple and "" or rates.PHASES[requests.phase], reason = learned.reason,
    changed_at = learned.changed_at, measured = first and last and last.count - first.count or 0,
    span = first and last and last.at - first.at or 0, granted = node.granted, rejected = requests.rejections,
    cap = slots.cap > 0 and slots.cap or learned.slots, samples = slots.samples,
    token_kind = learned.token_kind or nil, tokens = tokens and tokens.rate or 0,
    shares = risks.shares(learned.risk, now), risk = risks.risk(learned.risk, now), cut = learned.cut,
    window = requests.window.span,
  }
end

return { reason_of = reason_of, announce = announce, state_of = state_of }
