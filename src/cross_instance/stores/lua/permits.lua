-- What acquiring, settling and cancelling have in common (of rules/permits.py).

local admission = require "admission"
local ledger = require "ledger"
local limits = require "limits"
local queue = require "queue"
local tables = require "tables"

local CHECK, CHECK_EACH = SECOND, 10000
local max, min = math.max, math.min

-- What keeps a request back on its whole path: how long the pause and its buckets need, if nothing comes back to them,
-- whether it fits, the limit that binds, and the one that it exceeds by itself.
local function outlook(path, permit)
  local delay, binding, excess = max(0, ledger.new_node(permit.account).paused_until - ledger.now), nil, nil
  local fits = delay == 0
  for _, step in ipairs(path) do
    local hold = limits.hold_of(step.node, permit.costs, ledger.at)
    fits = fits and hold.fits
    if hold.delay > delay or (hold.slots and not binding) then
      delay = max(delay, hold.delay)
      local limit = hold.bucket or hold.slots
      binding = limit and { step = step, limit = limit }
    end
    if hold.excess and not excess then excess = { step = step, limit = hold.excess } end
  end
  return { delay = delay, fits = fits, binding = binding, excess = excess }
end

-- How long the pause and those buckets need, in µs, to which no permit in flight may return anything.
local function least_wait(path, permit)
  local delay = ledger.new_node(permit.account).paused_until - ledger.now
  for _, step in ipairs(path) do
    delay = max(delay, limits.hold_of(step.node, permit.costs, ledger.at, true).delay)
  end
  return delay
end

local function shown(binding)
  return binding and limits.shown(binding.step.name, binding.step.node, binding.limit)
end

-- The refusal of what exceeds a limit by itself, or nil.
local function too_large(outlook, permit)
  local excess = outlook.excess
  return excess and { reason = "too_large", limit = shown(excess), needed = permit.costs[UNITS[excess.limit.kind]] }
end

local function timed_out(outlook)
  return { reason = "timeout", retry_after = outlook.delay, limit = shown(outlook.binding) }
end

-- The refusal of what cannot be had in time, or nil; a wait for slots has no bound that is known.
local function too_late(op, path, permit, outlook)
  if op.timeout >= outlook.delay then return nil end
  if op.timeout > 0 and op.timeout >= least_wait(path, permit) then return nil end
  return timed_out(outlook)
end

-- Take the caller out of the queue: it is refused.
local function withdraw(op, permit)
  queue.dequeue(op.incarnation, op.seq, permit)
  ledger.drop_permit(op.incarnation, op.seq)
  ledger.touched[op.account] = true
  admission.admit()
end

-- When the caller should ask again: at its timer where it holds one, at the latest after a safety interval.
local function check_at(op, permit)
  local path = ledger.path(permit)
  local at = min(ledger.now + CHECK + CHECK_EACH * path[#path].node.waiting, permit.deadline)
  local nodes = { ledger.new_node(ledger.group_node(op.account, op.group)) }
  for _, step in ipairs(path) do table.insert(nodes, step.node) end
  for _, node in ipairs(nodes) do
    local incarnation, seq, armed_at = unpack(node.armed)
    if incarnation == op.incarnation and seq == op.seq and armed_at > ledger.now then at = min(at, armed_at) end
  end
  return at
end

-- `age`: how long ago it was charged.
local function granted(permit, age)
  return "Granted", { waited = ledger.now - permit.arrival, age = age, epochs = permit.epochs }
end

-- Let the queue decide; who still waits then is told until when, or is refused where its time is over.
-- `found` is the outlook before.
local function wait(op, permit, found)
  ledger.touched[op.account] = true
  local changed = admission.admit()
  if permit.state == HELD then return granted(permit, 0) end
  if changed then found = outlook(ledger.path(permit), permit) end
  if op.timeout <= 0 or permit.deadline <= ledger.now then
    if ledger.permit(op.incarnation, op.seq) then withdraw(op, permit) end
    return "Refused", timed_out(found)
  end
  return "Waiting", {
    not_before = ledger.now + found.delay, check_at = check_at(op, permit), limit = shown(found.binding),
  }
end

-- An offer that was heard of no longer passes on.
local function keep_offer(incarnation, seq, permit)
  if permit.state == OFFERED then tables.unindex(tables.expiry_key(permit.expires, incarnation, seq)) end
end

return {
  outlook = outlook, too_large = too_large, too_late = too_late, withdraw = withdraw, wait = wait, granted = granted,
  keep_offer = keep_offer,
}
