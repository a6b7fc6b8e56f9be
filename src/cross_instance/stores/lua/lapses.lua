-- Records that nobody need take away: who watches a task, who stole from whom, named locks (as rules/lapses.py).
--
-- 1. Each has a key under "y", at the instant at which it is looked at. What is still in use then gets a later one;
--    what is not is forgotten. So using a record longer moves no key.
-- 2. Every Sweep looks at what is due, in steps.
-- 3. A lock's fence is not forgotten with it: the next lock of any name has a larger one than all that were.

local tables = require "tables"

local WATCHED, LOCK_KEPT, LOCK_LOOKED_AT, THEFT_KEPT = MINUTE, MINUTE, 60 * MINUTE, 24 * 60 * MINUTE
local FENCES = "g" -- where the largest fence of the locks that are forgotten is stored
local min, max = math.min, math.max

-- The key that has a record looked at, at an instant (mono µs).
local function lapse_key(key, at)
  return tables.numbered("y", at) .. key
end

-- The largest fence of the locks that are forgotten.
local function last_fence()
  local value = tables.get(FENCES)
  return value and tables.number_at(value, 1) or 0
end

local function watch_left(value)
  return tables.number_at(value, 1) - tables.at.mono
end

local function lock_left(value)
  local held = cmsgpack.unpack(value)
  if not tables.get(tables.numbered("i", held.incarnation)) then return 0 end
  return min(held.expires_at + LOCK_KEPT - tables.at.mono, LOCK_LOOKED_AT)
end

local function theft_left(value)
  local _, last_at = struct.unpack("<dd", value)
  return min(last_at + THEFT_KEPT - tables.at.wall, THEFT_KEPT)
end

-- By letter: the µs for which a record is kept still, or looked at again after.
local LEFT = { a = watch_left, k = lock_left, s = theft_left }

local function look_at(key)
  local value = tables.get(key)
  if not value then return end
  local letter = string.sub(key, 1, 1)
  local left = LEFT[letter](value)
  if left > 0 then
    tables.index(lapse_key(key, tables.at.mono + left))
    return
  end
  tables.unindex(key)
  tables.delete(key)
  if letter == "k" then tables.put(FENCES, tables.number(max(cmsgpack.unpack(value).fence, last_fence()))) end
end

-- Look at `most` records whose time has come, and forget those that are not in use any more; how many it were.
local function forget(most)
  for looked = 0, most - 1 do
    local key = tables.first("y")
    if not key or tables.number_at(key, 2) > tables.at.mono then return looked end
    tables.unindex(key)
    look_at(string.sub(key, 10))
  end
  return most
end

return {
  WATCHED = WATCHED, LOCK_KEPT = LOCK_KEPT, LOCK_LOOKED_AT = LOCK_LOOKED_AT, THEFT_KEPT = THEFT_KEPT,
  key = lapse_key, last_fence = last_fence, forget = forget,
}
