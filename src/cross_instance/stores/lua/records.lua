-- What the rules keep: one table for each thing (as rules/records.py), read from its stored form and written in it.
-- What is not in forms.lua is MessagePack.

local pack, unpack_from = struct.pack, struct.unpack

local NO_LISTS = cmsgpack.pack({ {}, {}, {}, {}, false })

local doubles_of = { [0] = "<" }

-- The form of so many doubles.
local function doubles(count)
  local form = doubles_of[count]
  if not form then
    form = "<" .. string.rep("d", count)
    doubles_of[count] = form
  end
  return form
end

-- A list of so many doubles, and where the next thing begins.
local function read_doubles(value, place, count)
  if count == 0 then return {}, place end
  local list = { unpack_from(doubles(count), value, place) }
  list[count + 1] = nil
  return list, place + 8 * count
end

local function write_doubles(list)
  if #list == 0 then return "" end
  return pack(doubles(#list), unpack(list))
end

-- --- nodes ---------------------------------------------------------------------------------------------------------

local function read_limit(figures, base, from)
  local peaks = {}
  for place = 1, 2 * figures[base + L_PEAKS] do peaks[place] = figures[from + place] end
  local flags = figures[base + L_FLAGS]
  return {
    kind = figures[base + L_KIND], source = figures[base + L_SOURCE], amount = figures[base + L_AMOUNT],
    burst = figures[base + L_BURST], period = figures[base + L_PERIOD],
    correct = flags % 2 == 1, refund = flags % 4 >= 2, anchor = flags >= 4 and figures[base + L_ANCHOR] or nil,
    num = figures[base + L_NUM], den = figures[base + L_DEN], cap = figures[base + L_CAP],
    level = figures[base + L_LEVEL], at = figures[base + L_AT], window = figures[base + L_WINDOW],
    charges = figures[base + L_CHARGES], low = figures[base + L_LOW], peaks = peaks, -- flat: charge, level, ...
  }
end

local function write_limit(limit, figures, base)
  local flags = (limit.correct and 1 or 0) + (limit.refund and 2 or 0) + (limit.anchor and 4 or 0)
  figures[base + L_KIND], figures[base + L_SOURCE], figures[base + L_FLAGS] = limit.kind, limit.source, flags
  figures[base + L_PEAKS], figures[base + L_AMOUNT] = #limit.peaks / 2, limit.amount
  figures[base + L_BURST], figures[base + L_PERIOD] = limit.burst, limit.period
  figures[base + L_ANCHOR], figures[base + L_NUM], figures[base + L_DEN] = limit.anchor or 0, limit.num, limit.den
  figures[base + L_CAP], figures[base + L_LEVEL], figures[base + L_AT] = limit.cap, limit.level, limit.at
  figures[base + L_WINDOW], figures[base + L_CHARGES] = limit.window, limit.charges
  figures[base + L_LOW] = limit.low
end

local function read_limits(figures)
  local limits, retired = {}, {}
  local count = figures[N_LIMITS]
  local from = NODE_FIGURES + LIMIT_FIGURES * (count + figures[N_RETIRED])
  for number = 1, count + figures[N_RETIRED] do
    local limit = read_limit(figures, NODE_FIGURES + LIMIT_FIGURES * (number - 1), from)
    from = from + #limit.peaks
    if number <= count then limits[number] = limit else retired[number - count] = limit end
  end
  return limits, retired
end

local function read_node(value)
  local count = unpack_from("<I2", value)
  local figures = { unpack_from(doubles(count), value, 3) }
  local limits, retired = read_limits(figures)
  local node = {
    limits = limits, retired = retired, clustered = figures[3] == 1, held = figures[4], accepted = figures[5],
    spread = figures[6], waiting = figures[7], paused_until = figures[8], revision = figures[9],
    epochs = { figures[10], figures[11], figures[12] }, virtual = figures[13], busy = figures[14],
    armed = { figures[15], figures[16], figures[17] }, streak = figures[18], ageing = figures[19],
    departed_at = figures[20], granted = figures[21], watch = figures[22], notable = figures[23],
  }
  local lists = string.sub(value, 3 + 8 * count)
  if lists == NO_LISTS then
    node.children, node.patterns, node.reserved, node.departed, node.scaled = {}, {}, {}, {}, false
  else
    node.children, node.patterns, node.reserved, node.departed, node.scaled = unpack(cmsgpack.unpack(lists), 1, 5)
  end
  return node
end

local function write_node(node)
  local armed, epochs = node.armed, node.epochs
  local figures = {
    #node.limits, #node.retired, node.clustered and 1 or 0, node.held, node.accepted, node.spread, node.waiting,
    node.paused_until, node.revision, epochs[1], epochs[2], epochs[3], node.virtual, node.busy,
    armed[1], armed[2], armed[3], node.streak, node.ageing, node.departed_at, node.granted, node.watch, node.notable,
  }
  local base = NODE_FIGURES
  for _, list in ipairs({ node.limits, node.retired }) do
    for _, limit in ipairs(list) do
      write_limit(limit, figures, base)
      base = base + LIMIT_FIGURES
    end
  end
  for _, list in ipairs({ node.limits, node.retired }) do
    for _, limit in ipairs(list) do
      for place, figure in ipairs(limit.peaks) do figures[base + place] = figure end
      base = base + #limit.peaks
    end
  end
  return pack("<I2", base) .. write_doubles(figures)
    .. cmsgpack.pack({ node.children, node.patterns, node.reserved, node.departed, node.scaled })
end

local function new_node()
  return {
    limits = {}, retired = {}, clustered = false, waiting = 0, held = 0, virtual = 0, busy = 0, armed = { 0, 0, 0 },
    paused_until = 0, epochs = { 0, 0, 0 }, streak = 0, accepted = 3, spread = 0, revision = 0, ageing = 0,
    departed_at = 0, granted = 0, watch = FOREVER, notable = FOREVER, children = {}, patterns = {}, reserved = {},
    departed = {}, scaled = false,
  }
end

-- --- flows and tags ------------------------------------------------------------------------------------------------

local function new_flow()
  return {
    asleep = false, weight = 1, reserve = 0, level = 0, at = 0, slot = 0, used = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 },
  }
end

local function read_flow(value)
  local figures = { unpack_from(FLOW, value) }
  local flow = {
    asleep = figures[1] == 1, reserve = figures[2], slot = figures[3], used = {},
    weight = figures[16], level = figures[17], at = figures[18],
  }
  for place = 1, 12 do flow.used[place] = figures[16 - place] end
  return flow
end

local function write_flow(flow)
  local used = flow.used
  return pack(
    FLOW, flow.asleep and 1 or 0, flow.reserve, flow.slot, used[12], used[11], used[10], used[9], used[8], used[7],
    used[6], used[5], used[4], used[3], used[2], used[1], flow.weight, flow.level, flow.at
  )
end

-- `heads` by rank: start, arrival, seq.
local function new_tag()
  return { finish = 0, busy = 0, waiting = 0, heads = {} }
end

local function read_tag(value)
  local tag = new_tag()
  local count, place
  count, tag.finish, tag.busy, tag.waiting, place = unpack_from(TAG, value)
  for _ = 1, count do
    local rank, start, arrival, seq
    rank, start, arrival, seq, place = unpack_from(HEAD, value, place)
    tag.heads[rank] = { start, arrival, seq }
  end
  return tag
end

local function write_tag(tag)
  local parts, count = {}, 0
  for rank = 0, 4 do
    local head = tag.heads[rank]
    if head then
      count = count + 1
      parts[count] = pack(HEAD, rank, head[1], head[2], head[3])
    end
  end
  return pack(TAG, count, tag.finish, tag.busy, tag.waiting) .. table.concat(parts)
end

-- --- permits -------------------------------------------------------------------------------------------------------

local function permit_of(
  state, rank, reserved, clustered, nodes, requests, tokens, input, output, arrival, deadline,
  epoch1, epoch2, epoch3, expires, share, serial, granted_at, beside, spent, account, group, model, place
)
  return {
    state = state, rank = rank, reserved = reserved == 1, clustered = clustered == 1,
    costs = { requests, tokens, input, output }, arrival = arrival, deadline = deadline,
    epochs = { epoch1, epoch2, epoch3 }, expires = expires, share = share,
    stamp = { serial, granted_at, beside, spent }, account = account, group = group, model = model,
  }, nodes, place
end

-- `marks` are flat: one for each kind of bucket, for each node on the path, narrowest first. `stamp` is what the
-- learner wants to know of the grant: how many requests the narrowest node had granted before, the instant, how many
-- were in flight besides, and how many tokens had been granted.
local function read_permit(value)
  local permit, nodes, place = permit_of(unpack_from(PERMIT, value))
  permit.marks = read_doubles(value, place, BUCKETS * nodes)
  return permit
end

local function write_permit(permit)
  local costs, epochs, stamp = permit.costs, permit.epochs, permit.stamp
  local account, group, model = permit.account, permit.group, permit.model
  return pack(
    PERMIT, permit.state, permit.rank, permit.reserved and 1 or 0, permit.clustered and 1 or 0,
    #permit.marks / BUCKETS, costs[1], costs[2], costs[3], costs[4], permit.arrival, permit.deadline, epochs[1],
    epochs[2], epochs[3], permit.expires, permit.share, stamp[1], stamp[2], stamp[3], stamp[4], #account, account,
    #group, group, #model, model
  ) .. write_doubles(permit.marks)
end

return {
  new_node = new_node, read_node = read_node, write_node = write_node, new_flow = new_flow, read_flow = read_flow,
  write_flow = write_flow, new_tag = new_tag, read_tag = read_tag, write_tag = write_tag, read_permit = read_permit,
  write_permit = write_permit,
}
