-- Steal: take one entry that another instance offers, the oldest of the highest class.
--
-- Keys: all instances.
--
-- 1. An entry goes to one thief: it is taken out of what its owner offers in the same operation.
-- 2. A `seq` that was answered with an entry is answered with the same one again.

local tables = require "tables"

local incarnation, seq = unpack(cmsgpack.unpack(ARGV[1]))
local is_known = tables.open_for(incarnation, tables.numbered("i", incarnation))

local answer = require "answer"
local broadcasts = require "broadcasts"
local ledger = require "ledger"

local function stolen(entry, victim)
  return ledger.answer("Stolen", { entry = cmsgpack.unpack(entry), victim = victim })
end

-- The instance that offers what goes first; of two that offer the same, the one that joined first.
local function find_victim()
  local victim
  for _, key in ipairs(tables.scan("i")) do
    local of = tables.number_at(key, 2)
    local instance = of ~= incarnation and ledger.instance(of)
    if instance and broadcasts.may_lose(instance) then
      if not victim or broadcasts.is_before(instance.best, victim.best) then victim = instance end
    end
  end
  return victim
end

local thief = is_known and ledger.instance(incarnation)
if not thief then return answer.of("Fenced", {}) end
local last = thief.stolen
if last and last[1] == seq then return stolen(last[2], last[3]) end
local victim = find_victim()
if not victim then return answer.of("Stolen", {}) end
thief.stolen = { seq, broadcasts.give_up(victim), victim.instance_id }
return stolen(thief.stolen[2], victim.instance_id)
