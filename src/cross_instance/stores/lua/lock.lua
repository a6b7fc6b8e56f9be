-- Lock: take or renew a named lock. The same token renews; an expired lock goes to one contender.
--
-- Keys: the lock, the caller's instance and the holder's.

local tables = require "tables"

local incarnation, resource, token, ttl = unpack(cmsgpack.unpack(ARGV[1]))
local is_known = tables.open_for(incarnation, tables.named("k", resource), tables.numbered("i", incarnation))

local answer = require "answer"
local lapses = require "lapses"
local ledger = require "ledger"
local locks = require "locks"

if not is_known or not ledger.instance(incarnation) then return answer.of("Fenced", {}) end
local held, notices = locks.read(resource), nil
if held and locks.is_valid(held) then
  if held.token ~= token then return answer.of("Locked", { lock = locks.shown(resource, held), mine = false }) end
  held.expires_at = ledger.now + ttl
else
  if not held then
    local looked_at = ledger.now + math.min(ttl + lapses.LOCK_KEPT, lapses.LOCK_LOOKED_AT)
    tables.index(lapses.key(tables.named("k", resource), looked_at))
  end
  local last = held and held.fence or lapses.last_fence()
  local fence = math.max(ledger.at.wall, last + 1)
  if held and held.token ~= "" then notices = { locks.taken_over(resource, fence) } end
  held = {
    incarnation = incarnation, token = token, fence = fence, acquired_at = ledger.now, expires_at = ledger.now + ttl,
  }
end
locks.write(resource, held)
return answer.of("Locked", { lock = locks.shown(resource, held), mine = true, notices = notices })
