-- Sweep: remove the incarnations known to be dead, those that are silent, and what has expired.
--
-- Keys: when the next instance counts as silent, the next that expires; all that the removed ones had, and the lists in
-- which their tasks stand; idle workers.

local tables = require "tables"

local dead, awake = unpack(cmsgpack.unpack(ARGV[1]))
tables.open()

local admission = require "admission"
local lapses = require "lapses"
local ledger = require "ledger"
local registry = require "registry"

local removed, room, more = {}, registry.STEP, false

-- Remove an instance, if not too much was done already; whether it is gone.
local function remove(incarnation, certain)
  local id = ledger.instance(incarnation).instance_id
  local is_gone, ended = registry.remove(incarnation, certain, room)
  more = not is_gone
  if is_gone then table.insert(removed, id) end
  room = room - ended
  return is_gone
end

-- Who has been silent for longest, to one who has been awake for so long.
local function next_silent()
  local key = tables.first("b")
  while key and tables.number_at(key, 2) <= ledger.now do
    local silent = tables.number_at(key, 10)
    if ledger.instance(silent).timeout <= awake then return silent end
    key = tables.scan("b", 1, key)[1]
  end
end

for _, incarnation in ipairs(dead) do
  if not more and ledger.instance(incarnation) then remove(incarnation, true) end
end
local silent = not more and next_silent()
while silent do
  silent = remove(silent, false) and next_silent()
end
more = more or lapses.forget(room) == room
admission.admit()
return ledger.answer("Swept", { removed = removed, more = more })
