-- What becomes of an instance's permits and limits when it goes (as rules/registry.py).
--
-- 1. An instance known dead from the kernel lost its sockets: its slots return at once.
-- 2. An instance silent beyond its timeout may still have calls running: its slots become ghosts for a grace. Its
--    incarnation is fenced.
-- 3. Who leaves, dies or is replaced with very many waiters is removed in steps, oldest first; nothing is granted to it
--    in between.
-- 4. There is a node for the cluster only while a live instance limits it.

local admission = require "admission"
local broadcasts = require "broadcasts"
local ledger = require "ledger"
local publications = require "publications"
local queue = require "queue"
local specs = require "specs"
local desk = require "task_desk"
local tables = require "tables"
local tasks = require "task_ends"
local usage = require "usage"

local GRACE = 30 * SECOND
local STEP = 500 -- how many permits and waiters one operation ends at most

local function end_permit(incarnation, seq, certain)
  local permit = ledger.permit(incarnation, seq)
  if not permit or permit.state == GHOST then return end
  if permit.state == HELD and not certain then
    permit.state, permit.expires = GHOST, ledger.now + GRACE
    tables.index(tables.expiry_key(permit.expires, incarnation, seq))
    return
  end
  if permit.state == WAITING then
    queue.dequeue(incarnation, seq, permit)
  elseif permit.state == OFFERED then
    tables.unindex(tables.expiry_key(permit.expires, incarnation, seq))
    admission.uncharge_path(incarnation, permit)
  else
    admission.free_slots(permit)
  end
  ledger.drop_permit(incarnation, seq)
end

-- Note what an instance wants to be sure of in a minute.
local function reserve(node, incarnation, wanted)
  local reserved = {}
  for _, of in ipairs(node.reserved) do
    if of[1] ~= incarnation then table.insert(reserved, of) end
  end
  if wanted > 0 then table.insert(reserved, { incarnation, wanted }) end
  node.reserved = reserved
end

-- Give up an instance's reserve; what it used lately stays counted at the account.
local function depart(account, incarnation)
  local flow = ledger.flow(account, incarnation)
  if not flow then return end
  local node = ledger.new_node(account)
  reserve(node, incarnation, 0)
  usage.depart(node, flow, ledger.now)
end

local function contains(list, item)
  for _, each in ipairs(list) do
    if each == item then return true end
  end
  return false
end

-- The names of all accounts.
local function accounts()
  local names = {}
  for _, key in ipairs(tables.scan("n")) do
    local name = string.sub(key, 2, -2)
    if name ~= CLUSTER and not string.find(name, "#", 1, true) then table.insert(names, name) end
  end
  return names
end

-- All that hold what they were charged: held, offered, and ghosts. Waiters are passed over unread.
local function taken()
  local permits = {}
  for _, key in ipairs(tables.scan("p")) do
    if string.byte(tables.get(key)) ~= WAITING then table.insert(permits, ledger.permit(tables.permit_name(key))) end
  end
  return permits
end

-- Count at a new cluster node what was granted and queued before there was one.
local function cover_by_cluster()
  local cluster = ledger.new_node(CLUSTER)
  cluster.busy = ledger.now -- larger than in any tag that is left of an earlier cluster node
  for _, name in ipairs(accounts()) do
    local account = ledger.new_node(name)
    account.clustered = true
    cluster.held, cluster.waiting = cluster.held + account.held, cluster.waiting + account.waiting
    if account.waiting > 0 then table.insert(cluster.children, name) end
  end
  for _, permit in ipairs(taken()) do permit.clustered = true end
end

-- Count nothing at the cluster's node any more, and let everybody in who waited for it alone. What a permit was charged
-- there is forgotten: a later node for the cluster has not charged it.
local function uncover()
  ledger.drop_node(CLUSTER)
  for _, name in ipairs(accounts()) do
    ledger.new_node(name).clustered, ledger.touched[name] = false, true
  end
  for _, permit in ipairs(taken()) do
    permit.clustered = false
    for place = #permit.marks, BUCKETS * #ledger.path(permit) + 1, -1 do permit.marks[place] = nil end
  end
end

-- Have a node for the cluster as long as anybody limits it: without one, permits are cheaper.
local function follow_cluster()
  local is_heard, is_covered = publications.is_published(CLUSTER), ledger.node(CLUSTER)
  if is_heard and not is_covered then
    cover_by_cluster()
  elseif is_covered and not is_heard then
    uncover()
  end
end

-- The oldest permits and waiters of an instance that are no ghosts, one more than `most` where it has as many.
local function unended(incarnation, most)
  local seqs, prefix, last = {}, tables.numbered("p", incarnation), nil
  while true do
    local keys = tables.scan(prefix, STEP, last)
    for _, key in ipairs(keys) do
      local _, seq = tables.permit_name(key)
      if ledger.permit(incarnation, seq).state ~= GHOST then table.insert(seqs, seq) end
      if #seqs > most then return seqs end
    end
    if #keys < STEP then return seqs end
    last = keys[#keys]
  end
end

-- Forget an instance that holds nothing any more, with all that it published.
local function withdraw(incarnation, instance)
  for _, account in ipairs(instance.accounts) do
    publications.withdraw(incarnation, instance, account)
    depart(account, incarnation)
  end
  tables.unindex(tables.beat_key(instance.deadline, incarnation))
  tables.delete(tables.named("j", instance.instance_id))
  ledger.drop_instance(incarnation)
  for _, account in ipairs(instance.accounts) do specs.rebuild(account) end
  if contains(instance.accounts, CLUSTER) then follow_cluster() end
end

-- Return what an instance runs to where it was taken from. `is_dead`: it did not leave by itself.
local function leave_tasks(incarnation, is_dead)
  tasks.leave(incarnation, is_dead)
  for _, wake in ipairs(desk.wakes) do table.insert(ledger.wakes, wake) end
  desk.wakes = {}
end

-- Take an instance out of everything; whether it is gone, and how many of its permits and waiters were ended for that.
-- `certain`: it is known to be dead, not only silent. Where it has more than `most` permits and waiters, only the
-- oldest are ended; the others are passed over in the queue until they are, too.
local function remove(incarnation, certain, most)
  leave_tasks(incarnation, true)
  local instance, seqs = ledger.instance(incarnation), unended(incarnation, most)
  local is_gone = #seqs <= most
  for _, account in ipairs(instance.accounts) do
    if not is_gone and account ~= CLUSTER then queue.set_asleep(account, incarnation, true) end
  end
  local ended = math.min(#seqs, most)
  for place = 1, ended do end_permit(incarnation, seqs[place], certain) end
  if is_gone then
    broadcasts.part(instance, certain)
    withdraw(incarnation, instance)
  end
  return is_gone, ended
end

return {
  STEP = STEP, reserve = reserve, follow_cluster = follow_cluster, leave_tasks = leave_tasks, remove = remove,
}
