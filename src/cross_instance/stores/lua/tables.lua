-- Ordered tables on pairs of keys of one hash tag, and the layout of what is kept in them (as rules/tables.py).
--
-- KEYS[1] is a hash: key -> record. KEYS[2] is a sorted set of one score, ordered by bytes: the keys that must be
-- found by order, with a record or without one. KEYS[3] and KEYS[4] are such a pair for tasks alone, which stay longer
-- (task_records.lua): keys from \130 on are there.
--
-- 1. A key's first byte names its table. Integers in keys are eight bytes, big-endian; names end with a zero byte.
--
--      i instance    j its id's incarnation   z its nonce      b when it counts as silent
--      n node        f flow                   t tag            C spec        c who publishes it   d told
--      L learned     K its durable copy
--      p permit      q its place in line      h head of line   x what ends at an instant
--      k lock        l lost                   m claim          g fence       y what is looked at, and when
--      @ the latest instant                   \129 the last incarnation
--
-- 2. The instant and the records that an operation is known to need come with one command (`open`).
-- 3. Records are written at the end (`close`): first what is removed, since a server without memory refuses an
--    operation's first write only where it could take memory. So giving back always works.

local tables

local KEEP = 7 * 24 * 3600 * 1000
local BATCH = 1000 -- arguments in one command; Lua's stack ends at some 8,000
local pack, unpack_from = struct.pack, struct.unpack

local known, changed = {}, {}
local latest, expires

-- --- keys ----------------------------------------------------------------------------------------------------------

-- The key of a name, which is also the prefix of everything below it.
local function named(letter, name)
  return letter .. name .. "\0"
end

-- The key of a number, which is also the prefix of everything below it.
local function numbered(letter, number)
  return pack(">c1I8", letter, number)
end

-- A number as it stands in keys.
local function number(number)
  return pack(">I8", number)
end

-- The number that begins at a byte of a key.
local function number_at(key, place)
  return (unpack_from(">I8", key, place))
end

-- A flow or a tag: an instance's part of a node.
local function part_key(letter, name, incarnation)
  return pack(">c1I8", letter, incarnation) .. name .. "\0"
end

local function permit_key(incarnation, seq)
  return pack(">c1I8I8", "p", incarnation, seq)
end

-- (incarnation, seq) of a permit.
local function permit_name(key)
  local incarnation, seq = unpack_from(">I8I8", key, 2)
  return incarnation, seq
end

local function fifo_prefix(group, incarnation, rank)
  return named("q", group) .. pack(">I8B", incarnation, rank)
end

local function fifo_key(group, incarnation, rank, arrival, seq)
  return named("q", group) .. pack(">I8BI8I8", incarnation, rank, arrival, seq)
end

-- (arrival, seq) of a place.
local function fifo_place(key)
  local arrival, seq = unpack_from(">I8I8", key, #key - 15)
  return arrival, seq
end

local function head_key(group, rank, start, arrival, incarnation, seq)
  return named("h", group) .. pack(">BI8I8I8I8", rank, start, arrival, incarnation, seq)
end

-- (rank, start, arrival, incarnation, seq) of a head.
local function head_place(key)
  local rank, start, arrival, incarnation, seq = unpack_from(">BI8I8I8I8", key, #key - 32)
  return rank, start, arrival, incarnation, seq
end

local function expiry_key(at, incarnation, seq)
  return pack(">c1I8I8I8", "x", at, incarnation, seq)
end

-- (at, incarnation, seq) of what ends.
local function expiry_place(key)
  local at, incarnation, seq = unpack_from(">I8I8I8", key, 2)
  return at, incarnation, seq
end

local function beat_key(deadline, incarnation)
  return pack(">c1I8I8", "b", deadline, incarnation)
end

-- --- reading and writing -------------------------------------------------------------------------------------------

-- Which of KEYS is the hash of a key's pair; the next one is its sorted set.
local function pair_of(key)
  return string.byte(key) < 130 and 1 or 3
end

-- Begin: the instant, and the records at these keys.
local function open(...)
  local values = redis.call("HMGET", KEYS[1], CLOCK, ...)
  local mono, wall
  mono, wall, latest = read_clock(values[1])
  tables.at = { mono = mono, wall = wall }
  for place = 1, select("#", ...) do
    known[select(place, ...)] = values[place + 1]
  end
end

-- Begin an operation of an instance; whether it is the one that joined with the nonce of ARGV[2] ("": not known).
--
-- After lost data an incarnation may have been given out twice: the nonce tells the two apart.
local function open_for(incarnation, ...)
  local nonce_key = numbered("z", incarnation)
  open(nonce_key, ...)
  return ARGV[2] == "" or known[nonce_key] == ARGV[2]
end

-- The record at a key, or false.
local function get(key)
  local value = known[key]
  if value == nil then
    value = redis.call("HGET", KEYS[pair_of(key)], key)
    known[key] = value
  end
  return value
end

-- Read records of one pair together.
local function fetch(keys)
  for start = 1, #keys, BATCH do
    local last = math.min(start + BATCH - 1, #keys)
    local values = redis.call("HMGET", KEYS[pair_of(keys[1])], unpack(keys, start, last))
    for place = start, last do
      if known[keys[place]] == nil then known[keys[place]] = values[place - start + 1] end
    end
  end
end

local function put(key, value)
  known[key], changed[key] = value, value
end

local function delete(key)
  known[key], changed[key] = false, false
end

-- Let a key be found by order.
local function index(key)
  redis.call("ZADD", KEYS[2], 0, key)
end

local function unindex(key)
  redis.call("ZREM", KEYS[2], key)
end

-- The smallest indexed key that starts with `prefix`, or nil. No byte of a key after a prefix is 255.
local function first(prefix)
  local order = KEYS[pair_of(prefix) + 1]
  return redis.call("ZRANGEBYLEX", order, "[" .. prefix, "(" .. prefix .. "\255", "LIMIT", 0, 1)[1]
end

-- All indexed keys that start with `prefix`, in order; at most so many where `most` is given, and only those larger
-- than `after` where that is.
local function scan(prefix, most, after)
  local from = after and "(" .. after or "[" .. prefix
  local order = KEYS[pair_of(prefix) + 1]
  return redis.call("ZRANGEBYLEX", order, from, "(" .. prefix .. "\255", "LIMIT", 0, most or -1)
end

local function write(command, key, arguments)
  for start = 1, #arguments, BATCH do
    redis.call(command, key, unpack(arguments, start, math.min(start + BATCH - 1, #arguments)))
  end
end

-- Where the pair for tasks is to expire, it stays as long as the other one at least.
local function keep_pair_for_tasks()
  local left = redis.call("PTTL", KEYS[3])
  if left < 0 or left >= KEEP then return end
  redis.call("PEXPIRE", KEYS[3], KEEP)
  redis.call("PEXPIRE", KEYS[4], KEEP)
end

-- Write what was changed; where nothing was, not even the instant.
local function close()
  if not next(changed) then return end
  local gone, kept = { {}, nil, {} }, { { CLOCK, latest }, nil, {} }
  for key, value in pairs(changed) do
    local pair = pair_of(key)
    local list = value and kept[pair] or gone[pair]
    list[#list + 1] = key
    if value then list[#list + 1] = value end
  end
  write("HDEL", KEYS[1], gone[1])
  write("HDEL", KEYS[3], gone[3])
  write("HSET", KEYS[1], kept[1])
  write("HSET", KEYS[3], kept[3])
  changed = {}
  if expires then
    redis.call("PEXPIRE", KEYS[1], KEEP)
    redis.call("PEXPIRE", KEYS[2], KEEP)
    if KEYS[3] then keep_pair_for_tasks() end
  end
end

-- Let an abandoned namespace expire: both keys go a week after the last join, heartbeat or change of limits.
local function keep()
  expires = true
end

-- Whether one name goes before another, byte by byte: Lua's `<` follows the server's locale.
local function before(one, other)
  for place = 1, math.min(#one, #other) do
    local left, right = string.byte(one, place), string.byte(other, place)
    if left ~= right then return left < right end
  end
  return #one < #other
end

tables = {
  KEEP = KEEP, open = open, open_for = open_for, pair_of = pair_of, get = get, fetch = fetch, put = put,
  delete = delete, index = index, unindex = unindex, first = first, scan = scan, write = write, close = close,
  keep = keep, named = named, numbered = numbered, number = number,
  number_at = number_at, part_key = part_key, permit_key = permit_key, permit_name = permit_name,
  fifo_prefix = fifo_prefix, fifo_key = fifo_key, fifo_place = fifo_place, head_key = head_key,
  head_place = head_place, expiry_key = expiry_key, expiry_place = expiry_place, beat_key = beat_key, before = before,
}
return tables
