-- Admission: whoever comes first is granted whatever fits, in the operation in which it comes to fit
-- (as rules/admission.py).
--
-- 1. All or nothing: a grant takes from every limit on its path, in one operation.
-- 2. Work conserving: after `admit` no eligible waiter that fits is left ungranted.
-- 3. A waiter granted in somebody else's operation gets an offer and a wake. An offer not taken within 250 ms passes
--    on; its flow sleeps until it is heard of again.
-- 4. Where a first waiter must wait for time to pass, its timer is armed at the exact instant, and the next flow's as
--    a backup. For an offer that may lapse, the slow look that every waiter takes is backup enough.
-- 5. A waiter that now exceeds a limit by itself is never granted: it is woken, and refused when it asks.

local ledger = require "ledger"
local limits = require "limits"
local queue = require "queue"
local tables = require "tables"
local usage = require "usage"

local BACKUP = 100000
local BACKUPS_AMONG = 5
local max, min = math.max, math.min

-- Whether the last of slots is taken that are guessed or learned: that lets them grow.
local function is_full(node)
  for _, limit in ipairs(node.limits) do
    local may_grow = limit.kind == CONCURRENCY and (limit.source == LEARNED or limit.source == GUESS)
    if may_grow and node.held >= limit.amount then return true end
  end
  return false
end

-- Count a grant, and let the learner know where it wants to.
local function stamp(path, permit)
  local first, changed = path[1].node, false
  permit.stamp = { first.granted, ledger.now, first.held - 1, 0 }
  for _, step in ipairs(path) do
    local node = step.node
    local of_node = { serial = node.granted, at = ledger.now, held = node.held - 1, size = 1 }
    node.granted = node.granted + 1
    if step.name ~= CLUSTER and (node.watch <= ledger.now or is_full(node)) then
      local learner = require "learning_desk"
      changed = learner.granted(step.name, node, permit, of_node) or changed
    end
  end
  if changed then
    local specs = require "specs"
    specs.rebuild(permit.account)
  end
end

-- Charge a permit to every limit on its path, and to its instance.
local function charge_path(path, flow, permit)
  permit.marks = {}
  for _, step in ipairs(path) do limits.charge(step.node, permit.costs, permit.marks) end
  usage.count(flow, ledger.now)
  if flow.reserve > 0 and limits.refill_reserve(flow, ledger.now) then
    permit.reserved = true
    flow.level = flow.level - MINUTE
  end
  local epochs = path[1].node.epochs
  permit.epochs = { epochs[1], epochs[2], epochs[3] }
  stamp(path, permit)
end

-- Undo `charge_path`: the request was never sent.
local function uncharge_path(incarnation, permit)
  for place, step in ipairs(ledger.path(permit)) do
    limits.uncharge(step.node, permit.costs, permit.marks, (place - 1) * BUCKETS)
    step.node.granted = step.node.granted - 1
  end
  local flow = ledger.flow(permit.account, incarnation)
  if flow then
    usage.uncount(flow, permit.arrival)
    if permit.reserved then flow.level = flow.level + MINUTE end
  end
  permit.reserved = false
  ledger.touched[permit.account] = true
end

-- Return what a permit held; what it was charged stays charged.
local function free_slots(permit)
  for _, step in ipairs(ledger.path(permit)) do step.node.held = step.node.held - 1 end
  ledger.touched[permit.account] = true
end

-- The head of another instance than the first's, where one stands among the first few of the same group.
local function other_flow(group, first)
  for _, key in ipairs(tables.scan(tables.named("h", group), BACKUPS_AMONG)) do
    local _, _, _, incarnation, seq = tables.head_place(key)
    if incarnation ~= first then return incarnation, seq end
  end
  return nil
end

local function wake(incarnation, seq, at)
  table.insert(ledger.wakes, { incarnation = incarnation, seq = seq, at = at })
end

local function is_caller(order)
  return order.incarnation == ledger.caller.incarnation and order.seq == ledger.caller.seq
end

-- Tell the first waiter when to look again: at the instant it fits, or when an offer passes on before that.
local function arm(node, first, permit, delay)
  local due = min(ledger.now + delay, FOREVER)
  local at = min(due, ledger.next_expiry)
  local armed = node.armed
  if at == FOREVER then
    node.armed = { 0, 0, 0 }
    return
  end
  if armed[1] == first.incarnation and armed[2] == first.seq and armed[3] == at then return end
  node.armed = { first.incarnation, first.seq, at }
  if not is_caller(first) then wake(first.incarnation, first.seq, at) end
  if at < due then return end
  local incarnation, seq = other_flow(ledger.group_node(permit.account, permit.group), first.incarnation)
  if incarnation then wake(incarnation, seq, at + BACKUP) end
end

local function dismiss(order, permit)
  queue.dequeue(order.incarnation, order.seq, permit)
  ledger.drop_permit(order.incarnation, order.seq)
end

-- The first of a group; waiters past their deadline are dropped on the way.
local function live_first(group)
  while true do
    local first = queue.first_of_group(queue.account_of(group), group)
    if not first then return nil end
    local permit = ledger.permit(first.incarnation, first.seq)
    if permit.deadline >= ledger.now then return first end
    dismiss(first, permit)
  end
end

local function copied(list)
  local copy = {}
  for place, item in ipairs(list) do copy[place] = item end
  return copy
end

local first_that_fits

-- The first, by the node's own order, of those that pass the limits of each node below.
local function first_of_children(name, node)
  local first
  for _, child in ipairs(copied(node.children)) do
    local below = first_that_fits(child)
    if below then first = queue.first_of(first, queue.order_at(name, below)) end
  end
  return first
end

-- The waiter below a node that every limit up to and including the node's own admits, in the node's order.
-- The first of the eligible claims what frees here: if it does not fit, nobody does, and its timer is set.
function first_that_fits(name)
  local node, is_group = ledger.new_node(name), string.find(name, "#", 1, true)
  while true do
    local first = is_group and live_first(name) or not is_group and first_of_children(name, node)
    if not first then return nil end
    local permit = ledger.permit(first.incarnation, first.seq)
    local hold = limits.hold_of(node, permit.costs, ledger.at)
    if hold.fits and node.paused_until <= ledger.now then return first end
    if not hold.excess then
      arm(node, first, permit, hold.slots and FOREVER or max(hold.delay, node.paused_until - ledger.now))
      return nil
    end
    dismiss(first, permit)
    wake(first.incarnation, first.seq, ledger.now)
  end
end

local function grant(order)
  local incarnation, seq = order.incarnation, order.seq
  local permit = ledger.permit(incarnation, seq)
  charge_path(ledger.path(permit), ledger.flow(permit.account, incarnation), permit)
  queue.dequeue(incarnation, seq, permit, not order.reserved)
  if is_caller(order) then
    permit.state = HELD
    return
  end
  permit.state = OFFERED
  permit.expires = ledger.now + OFFER
  ledger.next_expiry = min(ledger.next_expiry, permit.expires)
  tables.index(tables.expiry_key(permit.expires, incarnation, seq))
  wake(incarnation, seq, ledger.now)
end

local function admit_below(root)
  local node, changed = ledger.node(root), false
  while node and node.waiting > 0 do
    local first = first_that_fits(root)
    if not first then break end
    grant(first)
    changed = true
  end
  return changed
end

local function pass_on(incarnation, seq, permit)
  uncharge_path(incarnation, permit)
  permit.state, permit.expires = WAITING, 0
  queue.enqueue(incarnation, seq, permit)
  queue.set_asleep(permit.account, incarnation, true)
end

local function end_one(incarnation, seq)
  local permit = ledger.permit(incarnation, seq)
  if permit and permit.state == OFFERED then
    pass_on(incarnation, seq, permit)
  elseif permit and permit.state == GHOST then
    free_slots(permit)
    ledger.drop_permit(incarnation, seq)
  end
end

-- Pass on the offers that were not taken, and end the ghosts whose grace is over; whether there were any. What has
-- ended by now is looked for once in each operation.
local function expire()
  local changed = false
  while ledger.next_expiry == 0 do
    local key, at, incarnation, seq = tables.first("x"), FOREVER, nil, nil
    if key then at, incarnation, seq = tables.expiry_place(key) end
    if at > ledger.now then
      ledger.next_expiry = at
    else
      tables.unindex(key)
      end_one(incarnation, seq)
      changed = true
    end
  end
  return changed
end

-- Grant all that fits, in order, wherever this operation may have freed something; whether anything came of it.
local function admit()
  local changed = expire()
  if ledger.node(CLUSTER) then return admit_below(CLUSTER) or changed end
  local accounts = {}
  for account in pairs(ledger.touched) do table.insert(accounts, account) end
  table.sort(accounts, tables.before)
  for _, account in ipairs(accounts) do changed = admit_below(account) or changed end
  return changed
end

return {
  charge_path = charge_path, uncharge_path = uncharge_path, free_slots = free_slots, admit = admit, expire = expire,
}
