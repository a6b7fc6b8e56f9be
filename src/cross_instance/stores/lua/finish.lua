-- Finish: end attempts; what became of each task.
--
-- Keys: the instance, its nonce; the tasks with their claims and results, and the lists in which they stand; durations
-- of kinds; who waits for their end; those that are due, or whose retention is over; idle workers.

local tables = require "tables"

local incarnation, ends = unpack(cmsgpack.unpack(ARGV[1]))
local is_known = tables.open_for(incarnation, tables.numbered("i", incarnation))

local answer = require "answer"
local attempts = require "task_ends"
local desk = require "task_desk"
local records = require "task_records"
local time = require "task_time"
local views = require "task_views"

local function end_attempt(one)
  local name, epoch, ended = one[1], one[2], {}
  ended.outcome, ended.result, ended.text, ended.retry_after, ended.draw = unpack(one, 3, 7)
  local task, claim = desk.task(name), desk.claim(name)
  if not task then return { task = name, known = false, state = cjson.null } end
  local is_owner = claim and claim.epoch == epoch and claim.incarnation == incarnation
  local was_told = task.last_epoch == epoch and task.last_outcome == ended.outcome
  if is_owner then
    local back = ended.outcome == records.OUTCOME.released and not task.cancel
    desk.drop(name, claim, back)
    if not back then attempts.decide(task, claim, ended) end
    claim = nil
  end
  local run_at = task.phase == records.OPEN and task.place == 0 and task.run_at or 0
  return { task = name, known = is_owner or was_told, state = views.state_of(task, claim), run_at = run_at }
end

if not is_known or not tables.get(tables.numbered("i", incarnation)) then return answer.of("Fenced", {}) end
desk.own = incarnation
local names = {}
for place, one in ipairs(ends) do names[place] = one[1] end
desk.fetch("\130", names)
desk.fetch("m", names)
local due, expired = time.due(), time.expired(2 * #ends)
time.make_ready(due)
time.forget(expired)
local ended = {}
for place, one in ipairs(ends) do ended[place] = end_attempt(one) end
desk.close()
return desk.answer("Finished", 1, cmsgpack.pack("tasks", ended))
