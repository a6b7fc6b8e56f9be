-- Whose turn it is: the first tasks of some lanes that nobody has claimed (as rules/task_lines.py).
--
-- 1. A smaller rank goes first, then the place; places are numbered over all lanes.
-- 2. A returned place comes before everything that was never handed out.

local desk = require "task_desk"
local records = require "task_records"
local tables = require "tables"
local workers = require "task_workers"

-- Whether nobody takes tasks from a queue.
local function is_paused(queue)
  return tables.get(tables.named("\136", queue)) and true or false
end

-- Add the lines of a queue's lanes with tasks in them that its own instance may take.
local function add_lines(found, queue, tags)
  for _, line in ipairs(desk.lines(queue)) do
    local _, lane = records.names_of(line)
    if workers.may_take(lane, tags, false) then table.insert(found, line) end
  end
end

-- The ids of the first unclaimed tasks of one rank of a lane, with their places; more than `most` may be found.
local function first_of_rank(line, rank, most)
  local found = {}
  for _, letter in ipairs({ "r", "\134" }) do
    local prefix = desk.place_prefix(letter, line, rank)
    local cursor = letter == "\134" and tables.number(desk.taken_of(line).cursors[rank + 1]) .. "\255" or ""
    for _, key in ipairs(desk.scan(prefix, most, cursor ~= "" and prefix .. cursor or nil)) do
      table.insert(found, {
        rank = rank, place = tables.number_at(key, #prefix + 1), name = string.sub(key, #prefix + 9),
      })
    end
    if #found >= most then break end
  end
  return found
end

-- A walk over the first unclaimed tasks of a lane, of which at most so many are wanted; each call gives the next one.
local function walk(line, most)
  local ranks, rank, found, place = desk.lane(line).ranks, -1, {}, 0
  return function()
    place = place + 1
    while not found[place] do
      rank = rank + 1
      if rank == records.RANKS then return nil end
      found, place = ranks[rank + 1] > 0 and first_of_rank(line, rank, most) or {}, 1
    end
    return found[place]
  end
end

local function comes_before(one, other)
  if one.rank ~= other.rank then return one.rank < other.rank end
  return one.place < other.place
end

-- Claim the first tasks of these lanes for `owner` (incarnation, seq): each task with its claim.
local function first_of(lines, owner, id, most)
  local walks, heads, found = {}, {}, {}
  for _, line in ipairs(lines) do
    walks[line] = walk(line, most)
    heads[line] = walks[line]()
  end
  while #found < most do
    local first
    for _, line in ipairs(lines) do
      if heads[line] and (not first or comes_before(heads[line], heads[first])) then first = line end
    end
    if not first then break end
    local task = desk.task(heads[first].name)
    table.insert(found, { task = task, claim = desk.take(task, owner, id, #found) })
    heads[first] = walks[first]()
  end
  return found
end

return { is_paused = is_paused, add_lines = add_lines, first_of = first_of }
