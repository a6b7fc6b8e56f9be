-- Named locks with a time to live (as rules/locks.py).
--
-- 1. A lock is released and renewed only with the token that took it.
-- 2. An expired lock goes to exactly one contender, and so does one whose holder's incarnation is gone.
-- 3. Each new holder gets a larger fence: the wall clock's µs, so that fences rise also over lost data. Until then they
--    rise whatever the clock does.
-- 4. Who takes a lock that was not given back says so: its holder's time was over, or its instance gone.
-- 5. A lock that nobody holds is forgotten after a while, and one of an instance that is gone (`lapses`).

local ledger = require "ledger"
local tables = require "tables"

local function read(resource)
  local value = tables.get(tables.named("k", resource))
  return value and cmsgpack.unpack(value)
end

local function write(resource, held)
  local key = tables.named("k", resource)
  if not tables.get(key) then tables.index(key) end
  tables.put(key, cmsgpack.pack(held))
end

local function is_valid(held)
  return held.expires_at > ledger.now and ledger.instance(held.incarnation) and true or false
end

local function shown(resource, held)
  return {
    resource = resource, incarnation = held.incarnation, token = held.token, fence = held.fence,
    acquired_at = held.acquired_at, expires_at = held.expires_at,
  }
end

local function taken_over(resource, fence)
  local text = 'the lock "%s" was not given back in time; it is taken over with the fence %.0f'
  return { topic = "lock-taken-over", text = string.format(text, resource, fence) }
end

return { read = read, write = write, is_valid = is_valid, shown = shown, taken_over = taken_over }
