-- What is kept of a learner: the record at its node, an account or a model group of one (as rules/learning_records.py;
-- its fields mean the same), and its durable copy.
--
-- In memory figures have names, `token_kind` is one, flags are booleans, and what is not there is false. Stored, a
-- record is the number of its figures, the figures, and the reason of the last change.

local kinds = require "kinds"
local risks = require "learning_risk"
local windows = require "learning_window"

local pack, unpack_from = struct.pack, struct.unpack

-- The figures in the order in which they are stored.
local OWN = {
  "started", "ceiling", "most_slots", "most_tokens", "slots", "slots_at", "recovered", "spent", "counted", "cut",
  "changed_at", "listen",
}
local SETTINGS = { "reduction", "recovery", "lowest", "highest" }
local RATE = {
  "rate", "phase", "estimate", "gain", "survived", "rejections", "lag", "cost", "learning", "told", "doubted", "slack",
}
local BLOCK = { "rejections", "row", "met", "kept", "reached", "learning", "at", "count", "excess" }
local ENDED, WINDOW = { "low", "high" }, { "span", "low", "high", "passed", "longest", "proven" }
local SLOTS = { "cap", "tried", "highest", "gain", "epoch", "proven", "strikes", "met", "retries" }
local MARK, SIMPLE = { "at", "count", "idle" }, { "rate", "changed" }

-- --- writing -------------------------------------------------------------------------------------------------------

local figures, count

local function add(figure)
  count = count + 1
  figures[count] = figure
end

local function add_named(record, names)
  for place = 1, #names do figures[count + place] = record[names[place]] end
  count = count + #names
end

local function add_list(list)
  for place = 1, #list do figures[count + place] = list[place] end
  count = count + #list
end

-- Whether something is there, and what it is.
local function add_if_any(record, add_it)
  add(record and 1 or 0)
  if record then add_it(record) end
end

local function add_mark(mark)
  add_named(mark, MARK)
end

local function add_rate(rate)
  add_named(rate, RATE)
  add_named(rate.block, BLOCK)
  for _, mark in ipairs({ rate.step, rate.climb, rate.due }) do add_mark(mark) end
  add_if_any(rate.start, add_mark)
  add_if_any(rate.finish, add_mark)
end

local function add_slots(slots)
  add_named(slots, SLOTS)
  add_list(slots.blurred)
  add_mark(slots.step)
  add_mark(slots.due)
  add(#slots.samples)
  add_list(slots.samples)
end

-- What came to a rate later stands behind everything else, where who does not know it does not look.
local function add_windows(rate)
  add_named(rate.block, ENDED)
  add_named(rate.window, WINDOW)
  add_mark(rate.window.began)
  add_mark(rate.window.previous)
  add(#rate.window.ends)
  for _, one in ipairs(rate.window.ends) do add_list(one) end
end

-- The stored form of a record.
local function write(learned)
  figures, count = {}, 0
  local learner, settings, risk = learned.learner, learned.settings, learned.risk
  add_named(learned, OWN)
  add_list({ settings.simple and 1 or 0, settings.predicts and 1 or 0, learned.unkept and 1 or 0 })
  add_named(settings, SETTINGS)
  add(kinds.KIND[learned.token_kind] or 0)
  add_list(learned.announced)
  add_if_any(learned.simple, function(simple) add_named(simple, SIMPLE) end)
  add(learner.epoch)
  add_rate(learner.requests)
  add_if_any(learner.tokens, add_rate)
  add_slots(learner.slots)
  add(risk.slot)
  add_list(risk.sent)
  add_list(risk.rejected)
  add_windows(learner.requests)
  if learner.tokens then add_windows(learner.tokens) end
  return pack("<I2", count) .. pack("<" .. string.rep("d", count), unpack(figures)) .. learned.reason
end

-- --- reading -------------------------------------------------------------------------------------------------------

local place

local function take()
  place = place + 1
  return figures[place]
end

local function take_named(names)
  local record, before = {}, place
  for position = 1, #names do record[names[position]] = figures[before + position] end
  place = before + #names
  return record
end

local function take_list(length)
  local list, before = {}, place
  for position = 1, length do list[position] = figures[before + position] end
  place = before + length
  return list
end

local function take_if_any(take_it)
  return take() == 1 and take_it() or false
end

local function take_mark()
  return take_named(MARK)
end

local function take_rate()
  local rate = take_named(RATE)
  rate.block = take_named(BLOCK)
  rate.step, rate.climb, rate.due = take_mark(), take_mark(), take_mark()
  rate.start = take_if_any(take_mark)
  rate.finish = take_if_any(take_mark)
  return rate
end

local function take_windows(rate)
  if place >= count then
    rate.block.low, rate.block.high, rate.window = 0, 0, windows.new_window({})
    return
  end
  for name, value in pairs(take_named(ENDED)) do rate.block[name] = value end
  rate.window = take_named(WINDOW)
  rate.window.began, rate.window.previous, rate.window.ends = take_mark(), take_mark(), {}
  for position = 1, take() do rate.window.ends[position] = take_list(2) end
end

local function take_slots()
  local slots = take_named(SLOTS)
  slots.blurred = take_list(2)
  slots.step, slots.due = take_mark(), take_mark()
  slots.samples = take_list(take())
  return slots
end

-- A record from its stored form.
local function read(value)
  count = unpack_from("<I2", value)
  figures, place = { unpack_from("<" .. string.rep("d", count), value, 3) }, 0
  local learned = take_named(OWN)
  local is_simple, predicts, unkept = take(), take(), take()
  learned.settings, learned.unkept = take_named(SETTINGS), unkept == 1
  learned.settings.simple, learned.settings.predicts = is_simple == 1, predicts == 1
  learned.token_kind = kinds.KINDS[take()] or false
  learned.announced = take_list(3)
  learned.simple = take_if_any(function() return take_named(SIMPLE) end)
  local learner, risk = {}, {}
  learner.epoch = take()
  learner.requests = take_rate()
  learner.tokens = take_if_any(take_rate)
  learner.slots = take_slots()
  risk.slot = take()
  risk.sent = take_list(12)
  risk.rejected = take_list(12)
  take_windows(learner.requests)
  if learner.tokens then take_windows(learner.tokens) end
  learned.learner, learned.risk = learner, risk
  learned.reason = string.sub(value, 3 + 8 * count)
  return learned
end

-- --- beginning -----------------------------------------------------------------------------------------------------

-- A record of which only this is known.
local function new(known)
  local learned = {
    ceiling = 0, most_slots = 0, most_tokens = 0, slots = 0, slots_at = 0, simple = false, recovered = 0,
    token_kind = false, spent = 0, risk = risks.new_risk(), counted = 0, cut = 0, reason = "", changed_at = 0,
    announced = { 0, 0, 0 }, unkept = false, listen = 0,
  }
  for name, value in pairs(known) do learned[name] = value end
  return learned
end

-- --- the durable copy ----------------------------------------------------------------------------------------------

-- What was learned at a wall time.
local function write_kept(at, learned)
  return pack("<d", at) .. write(learned)
end

-- When, and what.
local function read_kept(value)
  return unpack_from("<d", value), read(string.sub(value, 9))
end

return { new = new, read = read, write = write, read_kept = read_kept, write_kept = write_kept }
