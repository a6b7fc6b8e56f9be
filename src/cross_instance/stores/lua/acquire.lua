-- Acquire: take a permit, or wait in the queue for one; repeated, it tells how the same request stands.
--
-- Keys: the account's node, the caller's flow and permit, its nonce; where it does not fit at once, the nodes, tags
-- and heads of its path.
--
-- 1. (incarnation, seq) names a permit for ever: the same request sent again finds what became of the first one.
-- 2. Where nobody waits and everything fits it is granted at once; everything else goes through the queue.
-- 3. A wait that cannot succeed within its timeout is refused at once, with the limit that binds; while a permit is in
--    flight whose settlement may return tokens to a bucket, that bucket is no reason to refuse.
-- 4. An offer is taken, and a permit that is held is told, whatever became of the limits since.

local incarnation, seq, revision, timeout, requests, tokens, input_tokens, output_tokens, priority, has_task,
  task_epoch, account_name, group, model, task = struct.unpack(ACQUIRE, ARGV[1])
local incarnation_bytes, seq_bytes = struct.pack(">I8", incarnation), struct.pack(">I8", seq)
local permit_key = "p" .. incarnation_bytes .. seq_bytes
local node_key = "n" .. account_name .. "\0"
local flow_key = "f" .. incarnation_bytes .. account_name .. "\0"
local nonce_key = "z" .. incarnation_bytes

-- --- the uncontended case at a glance ------------------------------------------------------------------------------
--
-- Most permits are taken where nobody waits and everything fits. That is decided here, on the stored forms themselves,
-- exactly as it is below (tests compare them with the model); whatever is not so plain is left to the rest.

local pack, unpack_from, sub = struct.pack, struct.unpack, string.sub

-- One more peak, lower than the last one, after PEAKS that follow the figure at `from`: the two nearest are counted as
-- one, the higher.
local function merge_peaks(figures, from, charges, level)
  local at, least = 2 * PEAKS, figures[from + 2 * PEAKS] - level
  local merged = figures[from + at]
  for height = 2 * PEAKS - 2, 2, -2 do
    local one, next_one = figures[from + height], figures[from + height + 2]
    if math.abs(one - next_one) <= least then
      at, least, merged = height, math.abs(one - next_one), math.max(one, next_one)
    end
  end
  for place = from + at - 1, from + 2 * PEAKS - 2 do figures[place] = figures[place + 2] end
  figures[from + 2 * PEAKS - 1], figures[from + 2 * PEAKS] = charges, level
  figures[from + at] = merged
end

-- Leave out the heights from the `first` to the `last`.
local function forget_peaks(figures, from, first, last)
  for _ = first, last do
    table.remove(figures, from + 2 * first - 1)
    table.remove(figures, from + 2 * first - 1)
  end
end

-- Remember how high a bucket stood, among the peaks that follow the figure at `from`; and how many there are then.
-- A height less than `near` below the last one counts as that.
local function note_peak(figures, from, heights, charges, level, near)
  local kept = heights
  while kept > 0 and figures[from + 2 * kept] <= level do kept = kept - 1 end
  if kept > 0 and figures[from + 2 * kept] - level < near then
    figures[from + 2 * kept - 1] = charges
    forget_peaks(figures, from, kept + 1, heights)
    return kept
  end
  if kept == PEAKS then
    merge_peaks(figures, from, charges, level)
    return PEAKS
  end
  forget_peaks(figures, from, kept + 2, heights)
  if kept == heights then
    table.insert(figures, from + 2 * kept + 1, level)
    table.insert(figures, from + 2 * kept + 1, charges)
  else
    figures[from + 2 * kept + 1], figures[from + 2 * kept + 2] = charges, level
  end
  return kept + 1
end

-- Whether the window whose figures follow `base` is another one than was kept, or has closed.
local function has_turned(figures, base, wall)
  local anchor, period, window, at =
    figures[base + L_ANCHOR], figures[base + L_PERIOD], figures[base + L_WINDOW], figures[base + L_AT]
  return math.floor((wall - anchor) / period) ~= window or (at ~= 0 and anchor + (window + 1) * period + at <= wall)
end

-- Charge the bucket whose figures follow `base`; its mark, or false where it does not fit.
local function charge_bucket(figures, base, from, mono, wall, cost)
  local den, level, charges = figures[base + L_DEN], figures[base + L_LEVEL], figures[base + L_CHARGES]
  if level < 0 then return false end
  if figures[base + L_FLAGS] >= 4 then
    if has_turned(figures, base, wall) then return false end
  elseif mono > figures[base + L_AT] then
    level = math.min(figures[base + L_CAP] * den, level + figures[base + L_NUM] * (mono - figures[base + L_AT]))
    figures[base + L_AT] = mono
  end
  if cost * den > level then return false end
  if cost == 0 then
    figures[base + L_LEVEL] = level
    return 0
  end
  if level > figures[base + L_LOW] then
    local near = math.floor(figures[base + L_CAP] * den / NEAR)
    figures[base + L_PEAKS] = note_peak(figures, from, figures[base + L_PEAKS], charges, level, near)
  end
  level = level - cost * den
  figures[base + L_LEVEL], figures[base + L_LOW], figures[base + L_CHARGES] = level, level, charges + 1
  return charges + 1
end

-- Charge all limits of a node; the marks, or nil where something does not fit.
local function charge_limits(figures, mono, wall)
  local units, marks = { requests, requests, tokens, input_tokens, output_tokens }, { 0, 0, 0, 0, 0 }
  local count, base = figures[N_LIMITS], NODE_FIGURES
  local from = base + LIMIT_FIGURES * (count + figures[N_RETIRED])
  for _ = 1, count do
    local kind = figures[base + L_KIND]
    if kind == CONCURRENCY then
      local may_grow = figures[base + L_SOURCE] == LEARNED or figures[base + L_SOURCE] == GUESS
      if figures[N_HELD] + (may_grow and 1 or 0) >= figures[base + L_AMOUNT] then return nil end
    else
      local mark = charge_bucket(figures, base, from, mono, wall, units[kind])
      if not mark then return nil end
      marks[kind] = mark
    end
    from, base = from + 2 * figures[base + L_PEAKS], base + LIMIT_FIGURES
  end
  figures[N_HELD] = figures[N_HELD] + 1
  return marks
end

-- The flow with one more grant in the present slot.
local function count_grant(flow, slot, grants, now)
  if slot == now then return sub(flow, 1, 24) .. pack("<d", grants + 1) .. sub(flow, 33) end
  local shift = math.min(now - slot, 12)
  return sub(flow, 1, 16) .. pack("<dd", now, 1) .. string.rep("\0", 8 * (shift - 1)) .. sub(flow, 25, 120 - 8 * shift)
    .. sub(flow, 121)
end

-- What `answer.of` gives for a permit, in one piece.
local function granted_at(mono, wall, waited, age, epoch1, epoch2, epoch3)
  return pack(
    ">c0I8c0I8c0I8c0I8c0I8c0I8c0I8", "Granted\n\132\162at\130\164mono\207", mono, "\164wall\207", wall,
    "\166waited\207", waited, "\163age\207", age, "\166epochs\147\207", epoch1, "\207", epoch2, "\207", epoch3
  )
end

-- Hold what another operation granted to a waiter; nil where it is none, or its flow sleeps.
local function take_offer(stored, flow, permit)
  local state, _, _, _, _, _, _, _, _, arrival, _, epoch1, epoch2, epoch3, expires = unpack_from(PERMIT, permit)
  if state ~= OFFERED or unpack_from("<d", flow) == 1 then return nil end
  local mono, wall, latest = read_clock(stored)
  local held = pack("<B", HELD) .. sub(permit, 2, 77) .. pack("<d", 0) .. sub(permit, 86) -- without an end
  redis.call("ZREM", KEYS[2], pack(">c1I8I8I8", "x", expires, incarnation, seq))
  redis.call("HSET", KEYS[1], CLOCK, latest, permit_key, held)
  return granted_at(mono, wall, mono - arrival, OFFER - (expires - mono), epoch1, epoch2, epoch3)
end

local function at_a_glance()
  if has_task == 1 or group ~= "" then return nil end
  local stored, nonce, node, flow, known =
    unpack(redis.call("HMGET", KEYS[1], CLOCK, nonce_key, node_key, flow_key, permit_key))
  if not node or not flow or (ARGV[2] ~= "" and ARGV[2] ~= nonce) then return nil end
  if known then return take_offer(stored, flow, known) end
  local count = unpack_from("<I2", node)
  local form = "<" .. string.rep("d", count)
  local figures = { unpack_from(form, node, 3) }
  figures[count + 1] = nil -- where the next thing begins
  if figures[N_WAITING] > 0 or figures[N_CLUSTERED] == 1 or figures[N_REVISION] ~= revision then return nil end
  local asleep, reserve, slot, grants = unpack_from("<dddd", flow)
  if reserve > 0 or asleep == 1 then return nil end
  local mono, wall, latest = read_clock(stored)
  if figures[N_PAUSED_UNTIL] > mono or figures[N_WATCH] <= mono then return nil end
  local serial, beside, marks = figures[N_GRANTED], figures[N_HELD], charge_limits(figures, mono, wall)
  if not marks then return nil end
  figures[N_GRANTED] = serial + 1
  if #figures ~= count then form = "<" .. string.rep("d", #figures) end
  local epoch1, epoch2, epoch3 = figures[N_EPOCHS], figures[N_EPOCHS + 1], figures[N_EPOCHS + 2]
  redis.call(
    "HSET", KEYS[1], CLOCK, latest,
    node_key, pack("<I2", #figures) .. pack(form, unpack(figures)) .. sub(node, 3 + 8 * count),
    flow_key, count_grant(flow, slot, grants, math.floor(mono / 5000000)),
    permit_key, pack(
      PERMIT, HELD, priority, 0, 0, 1, requests, tokens, input_tokens, output_tokens, mono,
      math.min(mono + timeout, FOREVER), epoch1, epoch2, epoch3, 0, 0, serial, mono, beside, 0, #account_name,
      account_name, 0, "", #model, model
    ) .. pack("<ddddd", unpack(marks))
  )
  redis.call("ZADD", KEYS[2], 0, permit_key)
  return granted_at(mono, wall, 0, 0, epoch1, epoch2, epoch3)
end

local granted = at_a_glance()
if granted then return granted end

-- --- the whole decision --------------------------------------------------------------------------------------------

local tables = require "tables"

local op = {
  incarnation = incarnation, seq = seq, account = account_name, group = group, revision = revision, model = model,
  priority = priority, timeout = timeout, task = has_task == 1 and task, task_epoch = task_epoch,
}
local is_known = tables.open_for(incarnation, node_key, flow_key, permit_key)

local admission = require "admission"
local answer = require "answer"
local ledger = require "ledger"
local limits = require "limits"
local permits = require "permits"
local queue = require "queue"

local function stale(account)
  return "Stale", { revision = account.revision, patterns = account.patterns }
end

local function owns_task()
  local claim = tables.get(tables.named("m", op.task))
  return claim and sub(claim, 1, 16) == tables.number(op.task_epoch) .. tables.number(op.incarnation)
end

local function enqueue(permit, path, flow, outlook)
  if flow.asleep then queue.set_asleep(op.account, op.incarnation, false) end
  for _, step in ipairs(path) do
    permit.share = math.max(permit.share, limits.dominant_share(step.node, permit.costs))
  end
  ledger.add_permit(op.incarnation, op.seq, permit)
  queue.enqueue(op.incarnation, op.seq, permit)
  return permits.wait(op, permit, outlook)
end

local function arrive(account, flow)
  if op.revision ~= account.revision then return stale(account) end
  if op.task and not owns_task() then return "Refused", { reason = "stale_task" } end
  local permit = {
    state = WAITING, rank = op.priority, reserved = false, clustered = account.clustered,
    costs = { requests, tokens, input_tokens, output_tokens }, arrival = ledger.now, expires = 0, share = 0, marks = {},
    deadline = math.min(ledger.now + op.timeout, FOREVER), epochs = { 0, 0, 0 },
    stamp = { 0, 0, 0, 0 }, account = op.account, group = op.group, model = op.model,
  }
  local path = ledger.path(permit)
  local outlook = permits.outlook(path, permit)
  if outlook.fits and account.waiting == 0 and path[#path].node.waiting == 0 then
    permit.state = HELD
    admission.charge_path(path, flow, permit)
    ledger.add_permit(op.incarnation, op.seq, permit)
    return permits.granted(permit, 0)
  end
  if admission.expire() then outlook = permits.outlook(path, permit) end
  local refused = permits.too_large(outlook, permit) or permits.too_late(op, path, permit, outlook)
  if refused then
    admission.admit()
    return "Refused", refused
  end
  return enqueue(permit, path, flow, outlook)
end

-- Hold what is offered, or is held already.
local function take(flow, permit)
  local age = 0
  if permit.state == OFFERED then
    age = OFFER - (permit.expires - ledger.now)
    permits.keep_offer(op.incarnation, op.seq, permit)
    permit.state, permit.expires = HELD, 0
  end
  if flow.asleep then
    queue.set_asleep(op.account, op.incarnation, false)
    ledger.touched[op.account] = true
    admission.admit()
  end
  return permits.granted(permit, age)
end

local function look_again(account, flow, permit)
  if permit.state == GHOST then return "Fenced", {} end
  if flow.asleep then queue.set_asleep(op.account, op.incarnation, false) end
  if op.revision ~= account.revision then return stale(account) end
  if op.group ~= permit.group then
    queue.dequeue(op.incarnation, op.seq, permit)
    permit.group = op.group
    queue.enqueue(op.incarnation, op.seq, permit)
  end
  local outlook = permits.outlook(ledger.path(permit), permit)
  local refused = permits.too_large(outlook, permit)
  if refused then
    permits.withdraw(op, permit)
    return "Refused", refused
  end
  return permits.wait(op, permit, outlook)
end

local function is_pattern(account, group)
  for _, pattern in ipairs(account.patterns) do
    if pattern == group then return true end
  end
  return false
end

local function is_misplaced(account)
  return op.revision == account.revision and op.group ~= "" and not is_pattern(account, op.group)
end

-- The result's name and fields; no fields where the operation's figures are refused.
local function decide()
  if not is_known then return "Fenced", {} end
  local flow, permit = ledger.flow(op.account, op.incarnation), ledger.permit(op.incarnation, op.seq)
  if flow and permit and (permit.state == OFFERED or permit.state == HELD) then return take(flow, permit) end
  local account = ledger.node(op.account)
  if not flow or not account then
    if not ledger.instance(op.incarnation) then return "Fenced", {} end
    return "Stale", { revision = 0, patterns = {} }
  end
  if is_misplaced(account) then return "ValueError" end
  if permit then return look_again(account, flow, permit) end
  return arrive(account, flow)
end

ledger.caller, ledger.publisher = op, op.incarnation
local name, fields = decide()
if fields then return ledger.answer(name, fields) end
return answer.refusal("group " .. op.group .. " is none of the patterns of " .. op.account)
