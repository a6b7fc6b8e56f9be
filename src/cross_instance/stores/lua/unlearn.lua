-- Unlearn: forget what was learned of limits, and begin anew with what is published and told.
--
-- Keys: all that is learned, and its copies; the accounts' nodes, with what is published and told for them.

local tables = require "tables"

local provider, account, model = unpack(cmsgpack.unpack(ARGV[1]))
tables.open()

local admission = require "admission"
local ledger = require "ledger"
local limits = require "learning_limits"
local patterns = require "patterns"
local specs = require "specs"

-- The account and the pattern in a node's name.
local function parts_of(name)
  local of, _, group = string.match(name, "^([^#]*)(#?)(.*)$")
  return of, group
end

local function is_meant(name)
  local of, group = parts_of(name)
  if provider ~= "" and provider ~= string.match(of, "^[^/]*") then return false end
  if account ~= "" and account ~= of then return false end
  if model == "" then return true end
  local node = ledger.node(of)
  return group == (node and patterns.most_specific(node.patterns, model) or "")
end

-- The names of all nodes at which something was learned, in their order.
local function learned_names()
  local names, known = {}, {}
  for _, letter in ipairs({ "L", "K" }) do
    for _, key in ipairs(tables.scan(letter)) do
      local name = string.sub(key, 2, -2)
      if not known[name] then table.insert(names, name) end
      known[name] = true
    end
  end
  table.sort(names, tables.before)
  return names
end

-- The accounts of these nodes, in their order.
local function accounts_of(names)
  local accounts, known = {}, {}
  for _, name in ipairs(names) do
    local of = parts_of(name)
    if not known[of] then table.insert(accounts, of) end
    known[of] = true
  end
  table.sort(accounts, tables.before)
  return accounts
end

local forgotten = {}
for _, name in ipairs(learned_names()) do
  if is_meant(name) then table.insert(forgotten, name) end
end
for _, name in ipairs(forgotten) do
  ledger.drop_learned(name)
  tables.unindex(limits.kept_key(name))
  tables.delete(limits.kept_key(name))
end
for _, of in ipairs(accounts_of(forgotten)) do specs.rebuild(of) end
admission.admit()
return ledger.answer("Unlearned", { nodes = forgotten })
