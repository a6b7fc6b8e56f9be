-- Snapshot: everything at one instant, in a fixed order: instances by incarnation, nodes by name, limits by kind.
--
-- Keys: all of them. Nothing is changed, not even the latest instant.
--
-- An instance's workload is passed on as it came, so the list of instances is put together from its bytes. Without
-- counts of what each holds and waits for, permits and waiters are not read.

local tables = require "tables"

local is_counted = cmsgpack.unpack(ARGV[1])[1]
tables.open()

local broadcasts = require "broadcasts"
local learned_limits = require "learning_limits"
local learned_notes = require "learning_notes"
local ledger = require "ledger"
local limits = require "limits"
local locks = require "locks"
local publications = require "publications"
local specs = require "specs"
local usage = require "usage"

local held, waiting, ghosts = {}, {}, {}

local function add(counts, key)
  counts[key] = (counts[key] or 0) + 1
end

local function count_permit(key)
  local incarnation, seq = tables.permit_name(key)
  local permit = ledger.permit(incarnation, seq)
  if permit.state ~= GHOST then
    add(permit.state == WAITING and waiting or held, incarnation)
    return
  end
  for _, step in ipairs(ledger.path(permit)) do add(ghosts, step.name) end
end

local function packed_instance(incarnation, instance)
  return "\143" .. cmsgpack.pack(
    "incarnation", incarnation, "instance_id", instance.instance_id, "pid", instance.pid, "machine", instance.machine,
    "host", instance.host, "session_id", instance.session_id, "cwd", instance.cwd, "version", instance.version,
    "joined_at", instance.joined_at, "beat_at", instance.beat_at, "held", held[incarnation] or 0,
    "waiting", waiting[incarnation] or 0, "heard_at", instance.deadline - instance.timeout,
    "broadcast_at", instance.broadcast_at, "workload"
  ) .. broadcasts.shown(instance)
end

local function flows_of(account, incarnations)
  local flows = {}
  for _, incarnation in ipairs(incarnations) do
    local flow = ledger.flow(account, incarnation)
    if flow then
      local used = usage.recent(flow.used, flow.slot, ledger.now)
      table.insert(flows, { incarnation = incarnation, weight = flow.weight, reserve = flow.reserve, used = used })
    end
  end
  return flows
end

local function shown_limits(name, node)
  local shown = {}
  for place, limit in ipairs(node.limits) do shown[place] = limits.shown(name, node, limit) end
  return shown
end

local function learned_at(name, node)
  local learned = ledger.learned(name)
  return learned and learned_notes.state_of(learned, node, learned_limits.allowed(learned)) or nil
end

local function node_state(name, incarnations)
  local node = ledger.new_node(name)
  local is_cluster, is_group = name == CLUSTER, string.find(name, "#", 1, true)
  local flows = (is_cluster or is_group) and {} or flows_of(name, incarnations)
  local used = usage.recent(node.departed, node.departed_at, ledger.now)
  for _, flow in ipairs(flows) do used = used + flow.used end
  return {
    node = name, limits = shown_limits(name, node), waiting = node.waiting, held = node.held,
    ghosts = ghosts[name] or 0, paused_until = node.paused_until > ledger.now and node.paused_until or 0,
    epochs = node.epochs, used = used, patterns = node.patterns, flows = flows,
    notices = is_group and {} or specs.conflicts(name, publications.specs_of(name)), learned = learned_at(name, node),
  }
end

local function held_locks()
  local shown = {}
  for _, key in ipairs(tables.scan("k")) do
    local resource = string.sub(key, 2, -2)
    local lock = locks.read(resource)
    if locks.is_valid(lock) then table.insert(shown, locks.shown(resource, lock)) end
  end
  return shown
end

for _, key in ipairs(is_counted and tables.scan("p") or {}) do count_permit(key) end
local incarnations, instances = {}, {}
for place, key in ipairs(tables.scan("i")) do
  local incarnation = tables.number_at(key, 2)
  incarnations[place] = incarnation
  instances[place] = packed_instance(incarnation, ledger.instance(incarnation))
end
local nodes = {}
for place, key in ipairs(tables.scan("n")) do nodes[place] = node_state(string.sub(key, 2, -2), incarnations) end
return "World\n\132" .. cmsgpack.pack("at", tables.at, "nodes", nodes, "locks", held_locks(), "instances")
  .. struct.pack(">BI4", 221, #instances) .. table.concat(instances)
