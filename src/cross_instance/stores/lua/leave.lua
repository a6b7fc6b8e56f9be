-- Leave: leave the registry; waiters are dropped, permits still held are given back as they were charged.
--
-- Keys: all that the instance had, and the lists in which its tasks stand; idle workers. Of very many waiters only the
-- oldest are dropped at once.

local tables = require "tables"

local incarnation = cmsgpack.unpack(ARGV[1])[1]
local is_known = tables.open_for(incarnation, tables.numbered("i", incarnation))

local admission = require "admission"
local answer = require "answer"
local ledger = require "ledger"
local registry = require "registry"

if not is_known or not ledger.instance(incarnation) then return answer.of("Left", { known = false }) end
registry.leave_tasks(incarnation, false)
local is_gone = registry.remove(incarnation, true, registry.STEP)
admission.admit()
ledger.publisher = incarnation
return ledger.answer("Left", { known = true, more = not is_gone })
