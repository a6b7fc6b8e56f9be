-- Keep: make what was learned of an instance's accounts outlive its record.
--
-- Keys: the instance, what is learned at its accounts and their groups, and its copies.

local tables = require "tables"

local incarnation = cmsgpack.unpack(ARGV[1])[1]
local is_known = tables.open_for(incarnation, tables.numbered("i", incarnation))

local answer = require "answer"
local keeping = require "learning_keeping"
local ledger = require "ledger"
local limits = require "learning_limits"

local instance = is_known and ledger.instance(incarnation)
if not instance then return answer.of("Fenced", {}) end
local kept = {}
for _, name in ipairs(keeping.nodes_of(instance)) do
  if limits.keep(name) then table.insert(kept, name) end
end
return ledger.answer("Kept", { nodes = kept })
