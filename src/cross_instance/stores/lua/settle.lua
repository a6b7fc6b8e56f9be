-- Settle: end a permit, and take in what its response said about limits.
--
-- Keys: the permit and its account's node; where somebody waits or something was said, the nodes, tags and heads of
-- its path.
--
-- 1. A permit ends once, and is corrected by the provider's own charging rule: what is owed is owed.
-- 2. Only a permit that is held (or offered) ends; a ghost or one settled before is not known.

local OUTCOMES = { "success", "rejected", "overloaded", "timeout", "error", "ignored" }

local incarnation, seq, outcome, has_usage, requests, tokens, input_tokens, output_tokens, delay, draw, signals =
  struct.unpack(SETTLE, ARGV[1])
local permit_key = struct.pack(">c1I8I8", "p", incarnation, seq)
local nonce_key = struct.pack(">c1I8", "z", incarnation)
local usage = has_usage == 1 and { requests, tokens, input_tokens, output_tokens }

-- --- the uncontended case at a glance ------------------------------------------------------------------------------
--
-- Most permits end well where nobody waits, and nothing is said of limits. That is decided here, on the stored forms
-- themselves, exactly as it is below (tests compare them with the model); whatever is not so plain is left to the rest.

local floor, max, min = math.floor, math.max, math.min
local pack, unpack_from, sub = struct.pack, struct.unpack, string.sub

-- How far the guard of a spread moves the `cap` of a bucket.
local function shift_of(figures, base, spread)
  local bunched = -floor(-figures[base + L_NUM] * min(spread, SECOND) / figures[base + L_DEN])
  local burst = figures[base + L_BURST]
  return burst - min(burst - 1, max(1, bunched)) - figures[base + L_CAP]
end

-- How much of a surplus is returned: what no peak since the charge has let over.
local function credit_of(figures, base, from, level, surplus, mark)
  local highest, den = level, figures[base + L_DEN]
  for place = from + 2 * figures[base + L_PEAKS], from + 2, -2 do
    if figures[place - 1] < mark then break end
    highest = max(highest, figures[place])
  end
  return max(0, min(surplus * den, figures[base + L_CAP] * den - highest))
end

-- Bring the window whose figures follow `base` to the guard of a new spread. False where it is another one than was
-- kept, or has closed.
local function turn_window(figures, base, wall, spread)
  local anchor, period, window, at =
    figures[base + L_ANCHOR], figures[base + L_PERIOD], figures[base + L_WINDOW], figures[base + L_AT]
  if floor((wall - anchor) / period) ~= window then return false end
  if at ~= 0 and anchor + (window + 1) * period + at <= wall then return false end
  if spread then figures[base + L_AT] = 0 - min(spread, SECOND, floor(period / 2)) end
  return true
end

-- Bring the bucket whose figures follow `base` to what was used, and to the guard of a new spread. False where it is
-- left to the rest.
local function correct_bucket(figures, base, from, mono, wall, surplus, mark, spread)
  local den, cap, level = figures[base + L_DEN], figures[base + L_CAP], figures[base + L_LEVEL]
  local shift = 0
  if figures[base + L_FLAGS] >= 4 then
    if not turn_window(figures, base, wall, spread) then return false end
  else
    local gained = figures[base + L_NUM] * max(0, mono - figures[base + L_AT])
    if gained >= EXACT then return false end
    if gained > 0 then level, figures[base + L_AT] = min(cap * den, level + gained), mono end
    if spread then shift = shift_of(figures, base, spread) end
  end
  local returned = surplus > 0 and credit_of(figures, base, from, level, surplus, mark) or 0
  if returned >= EXACT then return false end
  local moved = returned + shift * den
  if figures[base + L_LOW] + moved <= -EXACT then return false end
  figures[base + L_CAP], figures[base + L_LEVEL] = cap + shift, level + moved
  if moved == 0 and shift == 0 then return true end
  figures[base + L_LOW] = figures[base + L_LOW] + moved
  for place = from + 2, from + 2 * figures[base + L_PEAKS], 2 do
    figures[place] = figures[place] + (figures[place - 1] >= mark and moved or shift * den)
  end
  return true
end

-- Correct all limits of a node. False where they are left to the rest.
local function correct_limits(figures, mono, wall, charged, marks, spread)
  local count, base = figures[N_LIMITS], NODE_FIGURES
  local from = base + LIMIT_FIGURES * (count + figures[N_RETIRED])
  for _ = 1, count do
    local kind, surplus = figures[base + L_KIND], 0
    if usage and kind > REQUESTS_DAY and kind < CONCURRENCY and figures[base + L_FLAGS] % 2 == 1 then
      surplus = charged[kind] - usage[UNITS[kind]]
    end
    if surplus < 0 then return false end
    if marks[kind] == 0 then surplus = 0 end
    if kind < CONCURRENCY and (spread or surplus > 0) then
      if not correct_bucket(figures, base, from, mono, wall, surplus, marks[kind], spread) then return false end
    end
    from, base = from + 2 * figures[base + L_PEAKS], base + LIMIT_FIGURES
  end
  return true
end

local function at_a_glance()
  if outcome ~= 1 or signals <= #ARGV[1] then return nil end
  local stored, nonce, permit = unpack(redis.call("HMGET", KEYS[1], CLOCK, nonce_key, permit_key))
  if not permit or (ARGV[2] ~= "" and ARGV[2] ~= nonce) then return nil end
  local state, _, _, clustered, _, took_requests, took_tokens, took_input, took_output, _, _, epoch1, epoch2, epoch3, _,
    _, _, _, beside, _, account, group, _, place = unpack_from(PERMIT, permit)
  if state ~= HELD or clustered == 1 or group ~= "" then return nil end
  local node_key = "n" .. account .. "\0"
  local node = redis.call("HGET", KEYS[1], node_key)
  if not node then return nil end
  local count = unpack_from("<I2", node)
  local form = "<" .. string.rep("d", count)
  local figures = { unpack_from(form, node, 3) }
  if figures[N_WAITING] > 0 or beside > figures[N_NOTABLE] then return nil end
  local mono, wall, latest = read_clock(stored)
  local spread, accepted = figures[N_SPREAD], figures[N_ACCEPTED]
  local measured = min(delay, SECOND)
  if measured <= spread then measured = spread - floor((spread - measured) / 64) end
  local charged = { took_requests, took_requests, took_tokens, took_input, took_output }
  local marks = { unpack_from("<ddddd", permit, place) }
  if not correct_limits(figures, mono, wall, charged, marks, measured ~= spread and measured) then return nil end
  figures[N_HELD], figures[N_SPREAD] = figures[N_HELD] - 1, measured
  local is_echo = epoch1 ~= figures[N_EPOCHS] or epoch2 ~= figures[N_EPOCHS + 1] or epoch3 ~= figures[N_EPOCHS + 2]
  if accepted < 3 and not is_echo then figures[N_ACCEPTED] = accepted + 1 end
  local written = sub(node, 1, 2) .. pack(form, unpack(figures, 1, count)) .. sub(node, 3 + 8 * count)
  redis.call("ZREM", KEYS[2], permit_key)
  redis.call("HDEL", KEYS[1], permit_key)
  redis.call("HSET", KEYS[1], CLOCK, latest, node_key, written)
  return pack( -- what `answer.of` gives, in one piece
    ">c0I8c0I8c0I8", "Settled\n\131\162at\130\164mono\207", mono, "\164wall\207", wall,
    "\165known\195\172paused_until\207", figures[N_PAUSED_UNTIL]
  )
end

local settled = at_a_glance()
if settled then return settled end

-- --- the whole decision --------------------------------------------------------------------------------------------

local tables = require "tables"

local op = {
  incarnation = incarnation, seq = seq, outcome = OUTCOMES[outcome], delay = delay, draw = draw,
  signals = signals > #ARGV[1] and { told = {} } or cmsgpack.unpack(string.sub(ARGV[1], signals)),
}
local is_known = tables.open_for(incarnation, permit_key)

local admission = require "admission"
local answer = require "answer"
local buckets = require "buckets"
local ledger = require "ledger"
local overload = require "overload"
local permits = require "permits"

local function correct(permit)
  for place, step in ipairs(ledger.path(permit)) do
    local before = (place - 1) * BUCKETS
    buckets.correct(step.node, permit.costs, permit.marks, before, usage, op.outcome == "rejected")
    buckets.measure(step.node, op.delay, ledger.at)
  end
  ledger.touched[permit.account] = true
  overload.hear(op, permit)
end

local permit = is_known and ledger.permit(op.incarnation, op.seq)
if not permit or permit.state == WAITING or permit.state == GHOST then
  return answer.of("Settled", { known = false })
end
ledger.caller, ledger.publisher = op, op.incarnation
permits.keep_offer(op.incarnation, op.seq, permit)
local account = ledger.new_node(permit.account)
if op.outcome == "ignored" then
  admission.uncharge_path(op.incarnation, permit)
else
  correct(permit)
end
ledger.drop_permit(op.incarnation, op.seq)
if account.waiting > 0 or permit.clustered then admission.admit() end
return ledger.answer("Settled", { known = true, paused_until = account.paused_until })
