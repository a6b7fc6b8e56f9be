-- The shared queue: who is next (as rules/queue.py; its rules 1 to 6 hold here).
--
-- An order is a waiter's place among others at one node: `reserved`, rank, start, arrival, incarnation, seq.

local ledger = require "ledger"
local limits = require "limits"
local tables = require "tables"

local COST = 16
local floor, max = math.floor, math.max

-- Whether one order goes before another.
local function before(one, other)
  if one.reserved ~= other.reserved then return one.reserved end
  if one.rank ~= other.rank then return one.rank < other.rank end
  if one.start ~= other.start then return one.start < other.start end
  if one.arrival ~= other.arrival then return one.arrival < other.arrival end
  if one.incarnation ~= other.incarnation then return one.incarnation < other.incarnation end
  return one.seq < other.seq
end

local function first_of(one, other)
  if one and (not other or not before(other, one)) then return one end
  return other
end

-- Where the next of this flow starts in a node's virtual time.
local function start_tag(node, tag)
  return tag.busy == node.busy and max(node.virtual, tag.finish) or node.virtual
end

local function account_of(group)
  return string.match(group, "^[^#]*")
end

local function names_on_path(permit)
  local names = { ledger.group_node(permit.account, permit.group), permit.account }
  if ledger.is_clustered(permit) then names[3] = CLUSTER end
  return names
end

local function place_of(list, item)
  for place, each in ipairs(list) do
    if each == item then return place end
  end
  return nil
end

local function count_child(node, child, waiting)
  local place = place_of(node.children, child)
  if waiting > 0 and not place then
    table.insert(node.children, child)
  elseif waiting == 0 and place then
    table.remove(node.children, place)
  end
end

-- Count a waiter at every node on its path; a node's first waiter opens a busy period.
local function count(permit, incarnation, sign)
  local below
  for _, name in ipairs(names_on_path(permit)) do
    local node = ledger.new_node(name)
    node.waiting = node.waiting + sign
    if below then
      count_child(node, below, ledger.new_node(below).waiting)
    else
      local tag = ledger.tag(name, incarnation)
      tag.waiting = tag.waiting + sign
    end
    if sign > 0 and node.waiting == 1 then
      node.busy, node.virtual, node.armed = node.busy + 1, 0, { 0, 0, 0 }
    end
    below = name
  end
end

local function index(group, incarnation, rank, tag, arrival, seq)
  local start = start_tag(ledger.new_node(group), tag)
  tag.heads[rank] = { start, arrival, seq }
  if not ledger.flow(account_of(group), incarnation).asleep then
    tables.index(tables.head_key(group, rank, start, arrival, incarnation, seq))
  end
end

local function unindex(group, incarnation, rank, head)
  tables.unindex(tables.head_key(group, rank, head[1], head[2], incarnation, head[3]))
end

-- Put a waiter at its place: by its arrival, among those of its instance and class.
local function enqueue(incarnation, seq, permit)
  local group, rank, arrival = ledger.group_node(permit.account, permit.group), permit.rank, permit.arrival
  tables.index(tables.fifo_key(group, incarnation, rank, arrival, seq))
  count(permit, incarnation, 1)
  local tag = ledger.tag(group, incarnation)
  local head = tag.heads[rank]
  if head and (head[2] < arrival or (head[2] == arrival and head[3] <= seq)) then return end
  if head then unindex(group, incarnation, rank, head) end
  index(group, incarnation, rank, tag, arrival, seq)
end

-- Place the heads of a flow anew, after its tag or its being awake has changed.
local function reindex(group, incarnation)
  local tag = ledger.tag(group, incarnation)
  for rank = 0, 4 do
    local head = tag.heads[rank]
    if head then
      unindex(group, incarnation, rank, head)
      index(group, incarnation, rank, tag, head[2], head[3])
    end
  end
end

-- Move a flow's tags, and the virtual times, by what a grant costs.
local function charge_flow(permit, incarnation)
  local weight = ledger.flow(permit.account, incarnation).weight
  local cost = max(1, floor(permit.share * COST / weight))
  for _, name in ipairs(names_on_path(permit)) do
    local node, tag = ledger.new_node(name), ledger.tag(name, incarnation)
    node.virtual = start_tag(node, tag)
    tag.busy, tag.finish = node.busy, node.virtual + cost
  end
end

-- Take a waiter out of the queue; the next of its instance's class becomes the head. `charged`: it is granted, and its
-- flow pays for it.
local function dequeue(incarnation, seq, permit, charged)
  local group, rank = ledger.group_node(permit.account, permit.group), permit.rank
  tables.unindex(tables.fifo_key(group, incarnation, rank, permit.arrival, seq))
  count(permit, incarnation, -1)
  local tag = ledger.tag(group, incarnation)
  local head = tag.heads[rank]
  local was_head = head[2] == permit.arrival and head[3] == seq
  if was_head then
    unindex(group, incarnation, rank, head)
    tag.heads[rank] = nil
  end
  if charged then
    charge_flow(permit, incarnation)
    reindex(group, incarnation)
  end
  local next_key = was_head and tables.first(tables.fifo_prefix(group, incarnation, rank))
  if next_key then index(group, incarnation, rank, tag, tables.fifo_place(next_key)) end
end

-- Pass over a flow that lets its offers lapse, or count it in again.
local function set_asleep(account, incarnation, asleep)
  local flow = ledger.flow(account, incarnation)
  if flow.asleep == asleep then return end
  flow.asleep = asleep
  for _, group in ipairs(ledger.new_node(account).children) do reindex(group, incarnation) end
end

-- The best head of each instance that has not used its reserve up.
local function first_within_reserve(account, group)
  local first
  for _, of in ipairs(ledger.new_node(account).reserved) do
    local incarnation = of[1]
    local flow = ledger.flow(account, incarnation)
    if flow and not flow.asleep and limits.refill_reserve(flow, ledger.now) then
      local heads = ledger.tag(group, incarnation).heads
      for rank = 0, 4 do
        local head = heads[rank]
        if head then
          local order = { reserved = true, rank = rank, start = head[1], arrival = head[2] }
          order.incarnation, order.seq = incarnation, head[3]
          first = first_of(first, order)
          break
        end
      end
    end
  end
  return first
end

local function order_of(key)
  local order = { reserved = false }
  order.rank, order.start, order.arrival, order.incarnation, order.seq = tables.head_place(key)
  return order
end

-- The first head, each with its class raised by its age. Walks over the flows, not the waiters.
local function first_aged(group, ageing)
  local first
  for _, key in ipairs(tables.scan(tables.named("h", group))) do
    local order = order_of(key)
    order.rank = max(0, order.rank - floor((ledger.now - order.arrival) / ageing))
    first = first_of(first, order)
  end
  return first
end

-- The waiter that comes first in a group, whether or not anything fits; nil where nobody waits.
local function first_of_group(account, group)
  local first = first_within_reserve(account, group)
  local key = tables.first(tables.named("h", group))
  if not key then return first end
  first = first_of(first, order_of(key))
  local ageing = ledger.new_node(account).ageing
  return ageing > 0 and first_of(first, first_aged(group, ageing)) or first
end

-- The same waiter's place at a wider node, by that node's own virtual time.
local function order_at(name, order)
  local start = start_tag(ledger.new_node(name), ledger.tag(name, order.incarnation))
  return {
    reserved = order.reserved, rank = order.rank, start = start, arrival = order.arrival,
    incarnation = order.incarnation, seq = order.seq,
  }
end

return {
  first_of = first_of, account_of = account_of, enqueue = enqueue, dequeue = dequeue,
  set_asleep = set_asleep, first_of_group = first_of_group, order_at = order_at,
}
