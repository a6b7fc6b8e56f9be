-- Broadcast entries: work that an application keeps itself, and that others may take (as rules/broadcasts.py; its rules
-- 1 to 6 hold here).
--
-- A workload comes, and is kept, in parts: its MessagePack map without the two fields that change here, the number of
-- pending tasks, and the entries, a MessagePack list by itself of { class, since when, id, the entry as it came }. Of
-- these the `best` goes first. So who reads an instance need not read what it offers.

local ledger = require "ledger"
local tables = require "tables"

local MOST_ENTRIES = 256
local LOST_LASTS = 24 * 60 * MINUTE
local IDLE = "\128" -- an empty map: the workload of one that has not told any

local function is_before(one, other)
  if one[1] ~= other[1] then return one[1] < other[1] end
  if one[2] ~= other[2] then return one[2] < other[2] end
  return tables.before(one[3], other[3])
end

-- Keep what an instance offers.
local function offer(instance, entries)
  local best
  for _, entry in ipairs(entries) do
    if not best or is_before(entry, best) then best = entry end
  end
  instance.offered = cmsgpack.pack(entries)
  instance.best = best and { best[1], best[2], best[3] }
end

local function set_of(list)
  local set = {}
  for _, item in ipairs(list) do set[item] = true end
  return set
end

-- The items that are not in a set.
local function others(list, set, id_of)
  local kept = {}
  for _, item in ipairs(list) do
    if not set[id_of(item)] then table.insert(kept, item) end
  end
  return kept
end

-- Keep what an instance says of its work, and forget what it was told to be taken.
local function receive(instance, workload, is_news, told)
  instance.taken = others(instance.taken, set_of(told), function(id) return id end)
  if not workload then return end
  instance.workload, instance.pending = workload[1], workload[2]
  offer(instance, others(workload[3], set_of(instance.taken), function(entry) return entry[3] end))
  if is_news then instance.broadcast_at = ledger.now end
end

-- Take the best entry out of what an instance offers.
local function give_up(instance)
  local kept, taken = {}, nil
  for _, entry in ipairs(cmsgpack.unpack(instance.offered)) do
    if entry[3] == instance.best[3] then taken = entry else table.insert(kept, entry) end
  end
  offer(instance, kept)
  instance.pending = math.max(0, instance.pending - 1)
  table.insert(instance.taken, taken[3])
  return taken[4]
end

-- Whether something may be taken from an instance now.
local function may_lose(instance)
  local is_fresh = instance.broadcast_at > 0 and ledger.now - instance.broadcast_at <= instance.timeout
  return is_fresh and instance.best and #instance.taken < MOST_ENTRIES
end

-- An instance is removed; one that may live (`certain`: it does not) will have to be told what it lost.
local function part(instance, certain)
  for _, key in ipairs(tables.scan("l")) do
    if cmsgpack.unpack(tables.get(key)).at < ledger.at.wall - LOST_LASTS then
      tables.unindex(key)
      tables.delete(key)
    end
  end
  if certain or #instance.taken == 0 then return end
  local key = tables.named("l", instance.instance_id)
  tables.index(key)
  tables.put(key, cmsgpack.pack({ at = ledger.at.wall, taken = instance.taken }))
end

-- An instance joins: what it lost before it was removed is told to it.
local function come_back(instance)
  local key = tables.named("l", instance.instance_id)
  local value = tables.get(key)
  if not value then return end
  instance.taken = cmsgpack.unpack(value).taken
  tables.unindex(key)
  tables.delete(key)
end

-- The workload, put together again.
local function shown(instance)
  if not instance.workload then return IDLE end
  local entries = cmsgpack.unpack(instance.offered)
  for place, entry in ipairs(entries) do entries[place] = entry[4] end
  local fields = string.byte(instance.workload) + 2 -- a map of fewer than 16 starts with their number
  return string.char(fields) .. string.sub(instance.workload, 2)
    .. cmsgpack.pack("pending", instance.pending, "stealable") .. struct.pack(">BI2", 220, #entries)
    .. table.concat(entries)
end

return {
  is_before = is_before, receive = receive, give_up = give_up, may_lose = may_lose, part = part, come_back = come_back,
  shown = shown,
}
