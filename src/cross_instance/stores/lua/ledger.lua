-- The records that one operation works on: each is read once, changed in place, and written once at the end
-- (as rules/ledger.py). What is not there, or not any more, is false.
--
-- Reading a node brings its limits to the operation's instant. `touched` are the accounts in which capacity may have
-- come free; `wakes` and `notices` go into the result. `caller` is the request that asks, `publisher` the incarnation
-- that finds its own wakes in the result. `next_expiry` is when the next offer or ghost ends, once what had ended by
-- now is out of the way (0: it is not yet). A waiter counts at the cluster's node while its account does; a permit that
-- was charged, while it says so itself.

local answer = require "answer"
local buckets = require "buckets"
local records = require "records"
local tables = require "tables"
local wakes = require "wakes"

local ledger

local nodes, learners, flows, tags, permits, instances = {}, {}, {}, {}, {}, {} -- by key

local function recall(kept, key, read)
  local record = kept[key]
  if record == nil then
    local value = tables.get(key)
    record = value and read(value)
    kept[key] = record
  end
  return record
end

-- The name of a model group's node; "" is the group of all models without a pattern.
local function group_node(account, group)
  return account .. "#" .. group
end

local function read_node(value)
  local node = records.read_node(value)
  for _, limit in ipairs(node.limits) do
    if limit.at < ledger.now then buckets.refill(limit, ledger.at) end
  end
  return node
end

-- A node with its limits refilled.
local function node(name)
  return recall(nodes, tables.named("n", name), read_node)
end

-- The node, made without limits where there was none.
local function new_node(name)
  local node = node(name)
  if not node then
    node = records.new_node()
    nodes[tables.named("n", name)] = node
  end
  return node
end

-- Remove a record that is in the index, and what was read of it.
local function drop(known, key)
  known[key] = false
  tables.unindex(key)
  tables.delete(key)
end

-- Remove a node at which nothing is counted any more.
local function drop_node(name)
  drop(nodes, tables.named("n", name))
end

-- What is learned at a node.
local function learned(name)
  local stored = require "learning_records"
  return recall(learners, tables.named("L", name), stored.read)
end

-- Keep what begins to be learned.
local function add_learned(name, learned)
  learners[tables.named("L", name)] = learned
end

-- Forget what is learned at a node.
local function drop_learned(name)
  drop(learners, tables.named("L", name))
end

-- Whether a permit counts at the cluster's node.
local function is_clustered(permit)
  if permit.state == WAITING then permit.clustered = new_node(permit.account).clustered end
  return permit.clustered
end

-- The nodes whose limits hold for a permit, narrowest first, with their names.
local function path(permit)
  local account, path = permit.account, {}
  if permit.group ~= "" then
    local group = group_node(account, permit.group)
    path[1] = { name = group, node = new_node(group) }
  end
  path[#path + 1] = { name = account, node = new_node(account) }
  if is_clustered(permit) then path[#path + 1] = { name = CLUSTER, node = new_node(CLUSTER) } end
  return path
end

-- An instance at an account; false where it published nothing for it, or is gone.
local function flow(account, incarnation)
  return recall(flows, tables.part_key("f", account, incarnation), records.read_flow)
end

-- The flow, made where there was none; only for a live instance, since a flow is what lets it acquire.
local function new_flow(account, incarnation)
  local flow = flow(account, incarnation)
  if not flow then
    flow = records.new_flow()
    flows[tables.part_key("f", account, incarnation)] = flow
  end
  return flow
end

-- An instance in a node's fair queue.
local function tag(node, incarnation)
  local key = tables.part_key("t", node, incarnation)
  local tag = recall(tags, key, records.read_tag)
  if not tag then
    tag = records.new_tag()
    tags[key] = tag
  end
  return tag
end

-- A permit or waiter.
local function permit(incarnation, seq)
  return recall(permits, tables.permit_key(incarnation, seq), records.read_permit)
end

local function add_permit(incarnation, seq, permit)
  permits[tables.permit_key(incarnation, seq)] = permit
end

local function drop_permit(incarnation, seq)
  local key = tables.permit_key(incarnation, seq)
  permits[key] = false
  tables.unindex(key)
  tables.delete(key)
end

-- A live instance.
local function instance(incarnation)
  return recall(instances, tables.numbered("i", incarnation), cmsgpack.unpack)
end

local function add_instance(incarnation, instance)
  instances[tables.numbered("i", incarnation)] = instance
end

-- Forget what was read, and what is stored, of an instance's flows or tags.
local function drop_parts(letter, kept, incarnation)
  local prefix = tables.numbered(letter, incarnation)
  for _, key in ipairs(tables.scan(prefix)) do
    tables.unindex(key)
    tables.delete(key)
  end
  for key in pairs(kept) do
    if string.sub(key, 1, #prefix) == prefix then kept[key] = false end
  end
end

-- Remove an instance with its flows and tags.
local function drop_instance(incarnation)
  local key = tables.numbered("i", incarnation)
  instances[key] = false
  tables.unindex(key)
  tables.delete(key)
  tables.delete(tables.numbered("z", incarnation))
  drop_parts("f", flows, incarnation)
  drop_parts("t", tags, incarnation)
end

local function write_all(kept, write)
  for key, record in pairs(kept) do
    if record then
      local before, value = tables.get(key), write(record)
      if not before then tables.index(key) end
      if value ~= before then tables.put(key, value) end
    end
  end
end

-- Write every record that was read and has changed.
local function close()
  write_all(nodes, records.write_node)
  if next(learners) then write_all(learners, require "learning_records".write) end
  write_all(instances, cmsgpack.pack)
  write_all(flows, records.write_flow)
  write_all(tags, records.write_tag)
  write_all(permits, records.write_permit)
end

-- Close, and answer with the wakes and notices.
local function close_and_answer(name, fields)
  close()
  if #ledger.wakes > 0 then fields.wakes = ledger.wakes end
  if #ledger.notices > 0 then fields.notices = ledger.notices end
  local reply = answer.of(name, fields)
  wakes.publish(ledger.wakes, ledger.publisher)
  return reply
end

ledger = {
  at = tables.at, now = tables.at.mono, caller = { incarnation = 0, seq = 0 }, publisher = 0,
  touched = {}, wakes = {}, notices = {}, next_expiry = 0,
  group_node = group_node, node = node, new_node = new_node, drop_node = drop_node, is_clustered = is_clustered,
  learned = learned, add_learned = add_learned, drop_learned = drop_learned, path = path, flow = flow,
  new_flow = new_flow, tag = tag, permit = permit, add_permit = add_permit, drop_permit = drop_permit,
  instance = instance, add_instance = add_instance, drop_instance = drop_instance, answer = close_and_answer,
}
return ledger
