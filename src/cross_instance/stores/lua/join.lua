-- Join: enter the registry, as an incarnation larger than any before.
--
-- Keys: the id's incarnation, the counter of incarnations, the new instance; of an earlier one that is replaced, all
-- that it had.
--
-- 1. The same nonce is the same Join: it gets the same incarnation.
-- 2. A live instance of this id is a duplicate, unless the kernel says that it is dead (same machine, lock held).
-- 3. Of an earlier one with very many waiters only the oldest are dropped at once: the operation is repeated.

local tables = require "tables"

local INCARNATIONS = "\129" -- where the last incarnation is stored

local fields = cmsgpack.unpack(ARGV[1])
local op = {
  instance_id = fields[1], nonce = fields[2], pid = fields[3], machine = fields[4], host = fields[5],
  holds_lock = fields[6], session_id = fields[7], cwd = fields[8], version = fields[9], timeout = fields[10],
}
local id_key = tables.named("j", op.instance_id)
tables.open(id_key, INCARNATIONS)

local admission = require "admission"
local answer = require "answer"
local broadcasts = require "broadcasts"
local ledger = require "ledger"
local registry = require "registry"

-- One more than the last; the first is the time in ms, so that a store made anew repeats none of the old one.
local function next_incarnation()
  local last = tables.get(INCARNATIONS)
  local incarnation = last and tables.number_at(last, 1) + 1 or math.floor(ledger.at.wall / 1000)
  tables.put(INCARNATIONS, tables.number(incarnation))
  return incarnation
end

local function enter(incarnation)
  local at, deadline = ledger.at, ledger.now + op.timeout
  local instance = {
    instance_id = op.instance_id, nonce = op.nonce, pid = op.pid, machine = op.machine, host = op.host,
    session_id = op.session_id, cwd = op.cwd, version = op.version, timeout = op.timeout, joined_at = at.wall,
    beat_at = at.wall, deadline = deadline, accounts = {}, specs = {}, taken = {}, broadcast_at = 0,
  }
  broadcasts.come_back(instance)
  ledger.add_instance(incarnation, instance)
  tables.put(id_key, tables.number(incarnation))
  tables.put(tables.numbered("z", incarnation), op.nonce)
  tables.index(tables.beat_key(deadline, incarnation))
end

local known = tables.get(id_key)
local earlier = known and tables.number_at(known, 1)
local present = earlier and ledger.instance(earlier)
if present and present.nonce == op.nonce then return answer.of("Joined", { incarnation = earlier }) end
if present then
  local certain = present.machine == op.machine and op.holds_lock
  if not certain and present.deadline > ledger.now then
    return answer.of("Duplicate", { pid = present.pid, machine = present.host })
  end
  if not registry.remove(earlier, certain, registry.STEP) then
    admission.admit()
    return ledger.answer("Removing", {})
  end
end
local incarnation = next_incarnation()
enter(incarnation)
admission.admit()
tables.keep()
return ledger.answer("Joined", { incarnation = incarnation })
