-- Tasks as they are shown: the MessagePack of TaskInfo and of what it is made of (as rules/task_views.py).

local desk = require "task_desk"
local records = require "task_records"
local tables = require "tables"

local STATES = { [0] = "queued", "done", "failed", "dead", "cancelled" } -- by phase; some that are open run
local pack = struct.pack

local BYTES, LIST, MAP = 198, 221, 222 -- what stands before bytes, a list and a map, whose lengths follow

-- Bytes, which the servers' library cannot pack.
local function bytes(text)
  return pack(">BI4", BYTES, #text) .. text
end

local function list(items)
  return pack(">BI4", LIST, #items) .. table.concat(items)
end

-- A task as it was submitted; its payload stands apart.
local function spec(task, payload)
  if payload == "" then return pack(">BI2", MAP, task.fields) .. task.description end
  return pack(">BI2", MAP, task.fields + 1) .. task.description .. cmsgpack.pack("payload") .. bytes(payload)
end

-- Where a task stands.
local function state_of(task, claim)
  return claim and task.phase == records.OPEN and "running" or STATES[task.phase]
end

local function info(task, claim, payload, result)
  local running = claim or { instance_id = "", epoch = 0, began = 0, progress = "" }
  return "\142" .. cmsgpack.pack(
    "state", state_of(task, claim), "submitted_at", task.submitted_at, "run_at", task.run_at, "finished_at",
    task.finished_at, "failures", task.failures, "deaths", task.deaths, "owner", running.instance_id, "epoch",
    running.epoch, "began", running.began, "cancel", task.cancel, "spec"
  ) .. spec(task, payload) .. cmsgpack.pack("progress") .. bytes(running.progress) .. cmsgpack.pack("attempts")
    .. list(records.attempts_of(task)) .. cmsgpack.pack("result") .. bytes(result)
end

local function payload_of(name)
  return tables.get(tables.named("\131", name)) or ""
end

-- A task as it is handed to its owner.
local function handed(task, claim)
  return "\132" .. cmsgpack.pack(
    "epoch", claim.epoch, "attempt", task.failures + task.deaths + 1, "cancel", task.cancel, "spec"
  ) .. spec(task, payload_of(task.name))
end

-- The answer that tells how a task stands now, with payload and result.
local function answer(name)
  local task, shown = desk.task(name), "\192"
  if task then
    local result = tables.get(tables.named("\132", name)) or ""
    shown = info(task, desk.claim(name), payload_of(name), result)
  end
  return desk.answer("TaskAnswer", 1, cmsgpack.pack("info") .. shown)
end

return { list = list, state_of = state_of, info = info, handed = handed, answer = answer }
