-- Current usage: how many grants the last 60 s saw, in slots of five seconds (as rules/usage.py).

local SLOT, SLOTS = 5000000, 12
local floor = math.floor

-- The series moved on from its last slot to end at `slot`; an empty one saw nothing.
local function turned(used, last, slot)
  local shift = math.min(slot - last, SLOTS)
  local series = {}
  for place = 1, SLOTS do series[place] = used[place + shift] or 0 end
  return series
end

-- Note one grant.
local function count(flow, now)
  local slot = floor(now / SLOT)
  if slot ~= flow.slot then
    flow.used, flow.slot = turned(flow.used, flow.slot, slot), slot
  end
  flow.used[SLOTS] = flow.used[SLOTS] + 1
end

-- Take one grant back that was not used, if its request came in the present slot; an older one stays counted.
local function uncount(flow, arrival)
  if flow.slot == floor(arrival / SLOT) then flow.used[SLOTS] = math.max(0, flow.used[SLOTS] - 1) end
end

-- The grants of the last 60 s in a series whose last slot has the number `slot`.
local function recent(used, slot, now)
  local sum = 0
  for _, grants in ipairs(turned(used, slot, floor(now / SLOT))) do sum = sum + grants end
  return sum
end

-- Keep a departing instance's usage counted at the account.
local function depart(node, flow, now)
  local slot = floor(now / SLOT)
  local mine, others = turned(flow.used, flow.slot, slot), turned(node.departed, node.departed_at, slot)
  for place = 1, SLOTS do mine[place] = mine[place] + others[place] end
  node.departed, node.departed_at = mine, slot
end

return { count = count, uncount = uncount, recent = recent, depart = depart }
