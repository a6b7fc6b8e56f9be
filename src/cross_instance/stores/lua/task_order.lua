-- What is found by order of tasks, and its keys. It is written together: before the next look at it, and at the end.

local tables = require "tables"

local pack = struct.pack

local pending = {} -- by key: whether it is to be found by order

-- Write what is to be found by order. What is removed goes first, so that a server without memory takes it; with
-- `refusable` last, so that it refuses everything.
local function flush(refusable)
  if not next(pending) then return end
  local gone, kept = { {}, nil, {} }, { {}, nil, {} }
  for key, is_kept in pairs(pending) do
    local pair = tables.pair_of(key)
    if is_kept then
      local list = kept[pair]
      list[#list + 1], list[#list + 2] = 0, key
    else
      table.insert(gone[pair], key)
    end
  end
  pending = {}
  for _, pair in ipairs({ 1, 3 }) do
    if refusable then tables.write("ZADD", KEYS[pair + 1], kept[pair]) end
  end
  if not refusable and #gone[1] == 0 then gone[1][1] = "" end -- nothing: a write that no server refuses
  for _, pair in ipairs({ 1, 3 }) do
    tables.write("ZREM", KEYS[pair + 1], gone[pair])
    if not refusable then tables.write("ZADD", KEYS[pair + 1], kept[pair]) end
  end
end

local function index(key)
  pending[key] = true
end

local function unindex(key)
  pending[key] = false
end

-- As `tables.scan`.
local function scan(prefix, most, after)
  flush()
  return tables.scan(prefix, most, after)
end

local function place_prefix(letter, line, rank)
  return letter .. line .. string.char(rank)
end

local function place_key(letter, line, rank, place, name)
  return place_prefix(letter, line, rank) .. tables.number(place) .. name
end

local function phase_key(phase, number, name)
  return pack(">c1BI8", "\133", phase, number) .. name
end

local function delayed_key(task)
  return pack(">c1I8I8", "\137", task.run_at, task.number) .. task.name
end

local function expires_key(task)
  return pack(">c1I8I8", "\139", task.finished_at + task.retention, task.number) .. task.name
end

local function owned_key(claim, name)
  return pack(">c1I8I8I8", "o", claim.incarnation, claim.seq, claim.turn) .. name
end

return {
  flush = flush, index = index, unindex = unindex, scan = scan, place_prefix = place_prefix, place_key = place_key,
  phase_key = phase_key, delayed_key = delayed_key, expires_key = expires_key, owned_key = owned_key,
}
