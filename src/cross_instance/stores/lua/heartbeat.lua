-- Heartbeat: say that the instance lives, and how it stands; hear which of its entries others took. The namespace is
-- kept for another week.
--
-- Keys: the instance and when it counts as silent; its flows; what its accounts were told, and what is learned there;
-- where one of them slept or something told is too old, the nodes and heads of its accounts.

local tables = require "tables"

local incarnation, is_news, told, workload = unpack(cmsgpack.unpack(ARGV[1]), 1, 4)
local is_known = tables.open_for(incarnation, tables.numbered("i", incarnation))

local admission = require "admission"
local answer = require "answer"
local broadcasts = require "broadcasts"
local keeping = require "learning_keeping"
local ledger = require "ledger"
local queue = require "queue"
local specs = require "specs"

local instance = is_known and ledger.instance(incarnation)
if not instance then return answer.of("Fenced", {}) end
tables.keep()
tables.unindex(tables.beat_key(instance.deadline, incarnation))
instance.beat_at, instance.deadline = ledger.at.wall, ledger.now + instance.timeout
tables.index(tables.beat_key(instance.deadline, incarnation))
broadcasts.receive(instance, workload, is_news, told)
for _, account in ipairs(instance.accounts) do
  specs.let_told_fade(account)
  if account ~= CLUSTER and ledger.flow(account, incarnation).asleep then
    queue.set_asleep(account, incarnation, false)
    ledger.touched[account] = true
  end
end
admission.admit()
ledger.publisher = incarnation
return ledger.answer("Beaten", { taken = instance.taken, unkept = keeping.is_unkept(instance) })
