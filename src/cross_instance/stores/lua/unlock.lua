-- Unlock: give a lock back; only its own token can.
--
-- Keys: the lock and its holder's instance.

local tables = require "tables"

local resource, token = unpack(cmsgpack.unpack(ARGV[1]))
tables.open(tables.named("k", resource))

local answer = require "answer"
local ledger = require "ledger"
local locks = require "locks"

local held = locks.read(resource)
if not held or held.token ~= token or not locks.is_valid(held) then return answer.of("Unlocked", { known = false }) end
held.expires_at, held.token = ledger.now, ""
locks.write(resource, held)
return answer.of("Unlocked", { known = true })
