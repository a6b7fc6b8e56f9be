-- Configure: publish the limits that an instance knows for an account; the strictest of the live ones holds.
--
-- Keys: the instance; the distinct specs that are published for the account, and one publisher of each; what is told
-- for it, its nodes and the caller's flow; where reserves are scaled down, the flows that have one; for the first limit
-- across all accounts (the cluster's), and the end of the last one, every node and permit.

local tables = require "tables"

local incarnation, account, origin, spec, weight, reserve = unpack(cmsgpack.unpack(ARGV[1]))
local is_known = tables.open_for(incarnation, tables.numbered("i", incarnation))

local admission = require "admission"
local answer = require "answer"
local ledger = require "ledger"
local limits = require "limits"
local publications = require "publications"
local registry = require "registry"
local specs = require "specs"

local function open_flow()
  local node = ledger.new_node(account)
  node.clustered = ledger.node(CLUSTER) and true or false
  registry.reserve(node, incarnation, reserve)
  local flow = ledger.new_flow(account, incarnation)
  if flow.reserve == 0 then limits.fill_reserve(flow, reserve, ledger.now) end
  flow.weight, flow.reserve = weight, reserve
end

local instance = is_known and ledger.instance(incarnation)
if not instance then return answer.of("Fenced", {}) end
publications.publish(incarnation, instance, account, spec, origin)
if account == CLUSTER then
  registry.follow_cluster()
else
  open_flow()
end
specs.rebuild(account)
for _, notice in ipairs(specs.conflicts(account, publications.specs_of(account))) do
  table.insert(ledger.notices, notice)
end
admission.admit()
tables.keep()
ledger.publisher = incarnation
local node = ledger.node(account) or { revision = 0, patterns = {} } -- nobody limits the cluster (any more)
return ledger.answer("Configured", { revision = node.revision, patterns = node.patterns })
