-- Which nodes a live instance learns at, for what keeps or forgets it (of rules/learning_keeping.py).

local ledger = require "ledger"

-- The names of an instance's accounts and of their groups.
local function nodes_of(instance)
  local names = {}
  for _, account in ipairs(instance.accounts) do
    if account ~= CLUSTER then
      table.insert(names, account)
      for _, pattern in ipairs(ledger.new_node(account).patterns) do
        table.insert(names, ledger.group_node(account, pattern))
      end
    end
  end
  return names
end

-- Whether a Keep would write something.
local function is_unkept(instance)
  for _, name in ipairs(nodes_of(instance)) do
    local learned = ledger.learned(name)
    if learned and learned.unkept then return true end
  end
  return false
end

return { nodes_of = nodes_of, is_unkept = is_unkept }
