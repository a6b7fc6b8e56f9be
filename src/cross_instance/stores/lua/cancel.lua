-- Cancel: leave the queue; a permit granted in the meantime is given back unused.
--
-- Keys: the permit, and the nodes, tags and heads of its path.

local tables = require "tables"

local incarnation, seq = unpack(cmsgpack.unpack(ARGV[1]))
local is_known = tables.open_for(incarnation, tables.permit_key(incarnation, seq))

local admission = require "admission"
local answer = require "answer"
local ledger = require "ledger"
local permits = require "permits"
local queue = require "queue"

local permit = is_known and ledger.permit(incarnation, seq)
if not permit or permit.state == GHOST then return answer.of("Cancelled", { was = "unknown" }) end
local was = permit.state == WAITING and "waiting" or "granted"
if was == "waiting" then
  queue.dequeue(incarnation, seq, permit)
else
  permits.keep_offer(incarnation, seq, permit)
  admission.uncharge_path(incarnation, permit)
end
ledger.drop_permit(incarnation, seq)
ledger.touched[permit.account] = true
admission.admit()
ledger.publisher = incarnation
return ledger.answer("Cancelled", { was = was })
