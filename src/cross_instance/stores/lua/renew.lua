-- Renew: report the progress of running tasks, and hear which are lost and whose cancellation is asked for.
--
-- Keys: the instance, its nonce, the claims.
--
-- Ownership does not hang on it: that ends with the incarnation.

local tables = require "tables"

local incarnation, held = unpack(cmsgpack.unpack(ARGV[1]))
local is_known = tables.open_for(incarnation, tables.numbered("i", incarnation))

local answer = require "answer"
local desk = require "task_desk"

if not is_known or not tables.get(tables.numbered("i", incarnation)) then return answer.of("Fenced", {}) end
local names, lost, cancelled = {}, {}, {}
for place, one in ipairs(held) do names[place] = one[1] end
desk.fetch("m", names)
for _, one in ipairs(held) do
  local name, epoch, has_progress, progress = unpack(one)
  local claim = desk.claim(name)
  if not claim or claim.epoch ~= epoch or claim.incarnation ~= incarnation then
    table.insert(lost, name)
  else
    if has_progress then
      claim.progress = progress
      tables.unindex("") -- nothing: a write that no server refuses
      desk.keep_claim(name, claim)
    end
    if claim.cancel then table.insert(cancelled, name) end
  end
end
return answer.of("Renewed", { lost = lost, cancelled = cancelled })
