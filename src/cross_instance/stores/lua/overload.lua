-- What a response says about limits: pauses after overloads, and limits that the provider stated (as
-- rules/overload.py; its rules 1 to 5 hold here).

local buckets = require "buckets"
local kinds = require "kinds"
local ledger = require "ledger"
local limits = require "limits"

local ACCEPTED_BETWEEN = 3
local EPOCH = { 1, 1, 2, 2, 2, 3 } -- by kind: which of (requests, tokens, concurrency) its overload moves
local LONGEST_PAUSE = 32 * SECOND
local floor, max, min = math.floor, math.max, math.min

-- Move the epoch of the kind that was hit, or of all where the provider did not say; false for an echo.
local function move_epoch(node, kind, permit)
  local hit = kind and EPOCH[kinds.KIND[kind]]
  local moved = {}
  for place = 1, 3 do
    local is_hit = not hit or hit == place
    if is_hit and permit.epochs[place] ~= node.epochs[place] then return false end
    moved[place] = node.epochs[place] + (is_hit and 1 or 0)
  end
  node.epochs = moved
  return true
end

local function pause_without_word(streak, draw)
  local pause = min(SECOND * 2 ^ min(streak, 5), LONGEST_PAUSE)
  return floor(pause * 4 / 5) + floor(floor(pause * 2 / 5) * floor(draw / 4096) / 2 ^ 20)
end

-- A day's quota is no rate, and an overloaded provider says nothing of one.
local function teaches(op)
  return op.outcome == "rejected" and op.signals.kind ~= "requests_day"
end

-- The µs to wait where the provider did not say: as the learner has it, else by the rejections in a row.
local function pause_of(account, name, op, permit)
  local learner = require "learning_desk"
  local learned = teaches(op) and learner.pause_of(name, permit, op.signals.kind, op.draw)
  return learned or pause_without_word(account.streak, op.draw)
end

-- Tell the learner of a rejection; whether limits follow from what it makes of it.
local function teach(op, permit, name, moved, is_told)
  if not teaches(op) then return false end
  local learner = require "learning_desk"
  if name ~= permit.account then learner.count_below(permit.account) end
  return learner.rejected(name, permit, moved, is_told, op.signals.kind)
end

-- Pause for an overload; whether limits follow from what the learner makes of it.
local function pause(account, op, permit)
  local signals, steps = op.signals, ledger.path(permit)
  local name, retry_after, path = steps[1].name, signals.retry_after, {}
  for _, step in ipairs(steps) do
    if step.name ~= CLUSTER then table.insert(path, step.node) end
  end
  local moved = op.outcome == "rejected" and move_epoch(path[1], signals.kind, permit)
  if moved then
    account.streak = account.accepted >= ACCEPTED_BETWEEN and 0 or account.streak + 1
    account.accepted = 0
    retry_after = retry_after or pause_of(account, name, op, permit)
  end
  if retry_after then
    account.paused_until = max(account.paused_until, min(ledger.now + retry_after, FOREVER))
  end
  if moved then
    for _, node in ipairs(path) do buckets.drain(node, signals.kind, account.paused_until) end
  end
  ledger.touched[permit.account] = true
  return teach(op, permit, name, moved, signals.retry_after ~= nil)
end

-- A limit told for the first time starts with what the provider says is left.
local function start_from(node, told)
  local limit = limits.of_kind(node, kinds.KIND[told.kind])
  if limit and limit.source == TOLD and told.remaining then
    buckets.take(limit, max(0, floor(limit.level / limit.den) - told.remaining))
  end
end

-- Put a told limit in force at the model's group, where the model has one of its own, else at the account.
local function believe(permit, told)
  local name = permit.group ~= "" and ledger.group_node(permit.account, permit.group) or permit.account
  local present = limits.of_kind(ledger.new_node(name), kinds.KIND[told.kind])
  if present and present.source == CONFIGURED then return end
  local is_known = present and present.source == TOLD and present.amount == told.limit
    and present.period == told.period
  local specs = require "specs"
  if specs.apply_told(name, permit.model, told) then
    specs.rebuild(permit.account)
    if not is_known then start_from(ledger.new_node(name), told) end
  end
end

-- Whether a permit was granted before the last overload.
local function is_echo(permit)
  local present = ledger.path(permit)[1].node.epochs
  for place, epoch in ipairs(permit.epochs) do
    if epoch ~= present[place] then return true end
  end
  return false
end

-- Tell the learner of an end that it wants to know of; whether limits follow from it.
local function ended(op, permit)
  local step = ledger.path(permit)[1]
  local is_notable = op.outcome == "timeout" or (op.outcome == "success" and permit.stamp[3] > step.node.notable)
  if not is_notable then return false end
  local learner = require "learning_desk"
  if op.outcome == "timeout" then return learner.timed_out(step.name, permit) end
  return learner.succeeded(step.name, step.node, learner.stamp_of(permit))
end

-- Take in what a settled permit reports.
local function hear(op, permit)
  local account, signals, changed = ledger.new_node(permit.account), op.signals, false
  if op.outcome == "success" and account.accepted < ACCEPTED_BETWEEN and not is_echo(permit) then
    account.accepted = account.accepted + 1
  end
  if (op.outcome == "rejected" or op.outcome == "overloaded") and not signals.exhausted then
    changed = pause(account, op, permit)
  else
    changed = ended(op, permit)
  end
  if changed then
    local specs = require "specs"
    specs.rebuild(permit.account)
  end
  for _, told in ipairs(signals.told) do believe(permit, told) end
end

return { hear = hear }
