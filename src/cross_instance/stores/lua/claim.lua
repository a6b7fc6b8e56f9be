-- Claim: own the next tasks of this instance's queue and the common one, or where there are none, of another's.
--
-- Keys: the instance, what it claimed before, its nonce; lanes with their lists and claims, the tasks that are taken
-- with their payloads; the first that are due; for a thief, durations of kinds and the accounts that tasks spend from;
-- idle workers.
--
-- 1. A claim sent again gets the same tasks; one that is older than the last gets nothing.
-- 2. Tasks that have become due become ready before anything else is decided.
-- 3. Who finds nothing counts as idle, and is woken.
-- 4. While a task of the common queue waits, nobody who is able to do it stays idle untold: whoever takes one and
--    leaves another wakes the next.
-- 5. Who asks for none works no more: what this claim was given before is given back.

local tables = require "tables"

local op = {}
op.incarnation, op.seq, op.most, op.steal, op.min_gain, op.tags = unpack(cmsgpack.unpack(ARGV[1]))
local is_known = tables.open_for(
  op.incarnation, tables.numbered("i", op.incarnation), tables.numbered("v", op.incarnation),
  tables.numbered("w", op.incarnation), "e"
)

local answer = require "answer"
local claimers = require "task_claimers"
local desk = require "task_desk"
local lines = require "task_lines"
local time = require "task_time"
local views = require "task_views"
local workers = require "task_workers"

local function claimed(found, victim, due)
  local shown = {}
  for place, one in ipairs(found) do shown[place] = views.handed(one.task, one.claim) end
  local fields, count = cmsgpack.pack("victim", victim, "tasks") .. views.list(shown), 2
  if due then
    local check_at = tables.at.mono + math.max(0, due - tables.at.wall)
    count, fields = 3, fields .. cmsgpack.pack("check_at", check_at)
  end
  return desk.answer("Claimed", count, fields)
end

-- What this claim was given when it was sent before.
local function given()
  local found = {}
  for place, name in ipairs(desk.owned(op.incarnation, op.seq)) do
    found[place] = { task = desk.task(name), claim = desk.claim(name) }
  end
  return found
end

-- The first tasks of the instance's own queue and the common one.
local function next_own(own, tags)
  local open = {}
  for _, queue in ipairs({ own, "" }) do
    if not lines.is_paused(queue) then lines.add_lines(open, queue, tags) end
  end
  return lines.first_of(open, op, own, op.most)
end

local own = is_known and desk.instance_id(op.incarnation)
if not own then return answer.of("Fenced", {}) end
desk.own = op.incarnation
local last = claimers.last_claim(op.incarnation)
if op.most == 0 then
  local ends = require "task_ends"
  ends.retire(op, last)
  return claimed({}, "")
end
local again = given()
if #again > 0 or op.seq <= last then return claimed(again, "") end
time.make_ready(time.due())
local tags, victim = workers.set_of(op.tags), ""
local found = next_own(own, tags)
if #found == 0 and op.steal then
  local stealing = require "task_stealing"
  victim, found = stealing.steal(op, own, tags)
end
if #found == 0 then
  desk.index(tables.numbered("w", op.incarnation))
  workers.list(op)
else
  workers.unlist(op.incarnation)
  for _, line in ipairs(desk.lines("")) do desk.announce(line, math.min(1, desk.queued(line))) end
end
claimers.put(op.incarnation, #found > 0 and op.seq or last)
desk.close()
return claimed(found, victim, time.next_due())
