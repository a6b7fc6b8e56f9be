-- Configure: publish the limits that an instance knows for an account; the strictest of the live ones holds.
--
-- Keys: the instance, all that is published and told for the account, its nodes and flows; for the first limit across
-- all accounts (the cluster's), and the end of the last one, every node and permit.

local tables = require "tables"

local incarnation, account, spec, weight, reserve = unpack(cmsgpack.unpack(ARGV[1]))
local is_known = tables.open_for(incarnation, tables.numbered("i", incarnation))

local admission = require "admission"
local answer = require "answer"
local ledger = require "ledger"
local limits = require "limits"
local registry = require "registry"
local specs = require "specs"

local function publish(instance)
  local key = registry.published_key(account, incarnation)
  if account == CLUSTER and #spec.limits == 0 then
    tables.unindex(key)
    tables.delete(key)
  else
    tables.put(key, cmsgpack.pack({ spec = spec, reserve = reserve }))
    tables.index(key)
  end
  if not registry.contains(instance.accounts, account) then table.insert(instance.accounts, account) end
end

local function open_flow()
  ledger.new_node(account).clustered = ledger.node(CLUSTER) and true or false
  local flow = ledger.new_flow(account, incarnation)
  if flow.reserve == 0 then limits.fill_reserve(flow, reserve, ledger.now) end
  flow.weight, flow.reserve = weight, reserve
end

local instance = is_known and ledger.instance(incarnation)
if not instance then return answer.of("Fenced", {}) end
publish(instance)
if account == CLUSTER then
  registry.follow_cluster()
else
  open_flow()
end
specs.rebuild(account)
for _, notice in ipairs(specs.conflicts(account, specs.voices(account))) do table.insert(ledger.notices, notice) end
admission.admit()
tables.keep()
ledger.publisher = incarnation
local node = ledger.node(account) or { revision = 0, patterns = {} } -- nobody limits the cluster (any more)
return ledger.answer("Configured", { revision = node.revision, patterns = node.patterns })
