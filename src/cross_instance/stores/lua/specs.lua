-- Which limits are in force: from what all live instances published and what the provider told (as rules/specs.py;
-- its rules 1 to 5 hold here). Specs have the form in which they are sent: kinds and sources by name.

local exact = require "exact"
local buckets = require "buckets"
local kinds = require "kinds"
local learned = require "learning_limits"
local learner = require "learning_desk"
local ledger = require "ledger"
local limits = require "limits"
local publications = require "publications"
local tables = require "tables"

local TOLD_LASTS = 60 * MINUTE -- how long a told limit holds without being told again
local CONFIRMED = MINUTE -- how old what was told may be noted to be before being told again is worth a write
local floor, max, min = math.floor, math.max, math.min
local insert = table.insert

-- --- told limits ---------------------------------------------------------------------------------------------------

-- A told limit as a spec. Only a second's worth of a minute's requests is taken at once; tokens come as a whole minute.
local function told_spec(told)
  local burst = told.kind == "requests" and max(1, floor(told.amount / 60)) or told.amount
  return {
    kind = told.kind, amount = told.amount, burst = burst, period = told.period, source = "told",
    correct = told.correct, refund = told.refund,
  }
end

-- What models told of a node, in the order in which they first did: { model, limits }.
local function told_at(name)
  local value = tables.get(tables.named("d", name))
  return value and cmsgpack.unpack(value) or {}
end

-- What of it was told an hour ago or less: providers that state limits do so in every answer.
local function still_told(all)
  local young, is_old = {}, false
  for _, of_model in ipairs(all) do
    local kept = {}
    for _, each in ipairs(of_model[2]) do
      if ledger.now - each.at < TOLD_LASTS then insert(kept, each) else is_old = true end
    end
    if #kept > 0 then insert(young, { of_model[1], kept }) end
  end
  return young, is_old
end

-- Forget what a node was told too long ago; whether there was any.
local function forget_old(name)
  local young, is_old = still_told(told_at(name))
  if not is_old then return false end
  local key = tables.named("d", name)
  if #young > 0 then tables.put(key, cmsgpack.pack(young)) else tables.delete(key) end
  return true
end

local function told_specs(name)
  forget_old(name)
  local told = {}
  for _, of_model in ipairs(told_at(name)) do
    for _, each in ipairs(of_model[2]) do insert(told, told_spec(each)) end
  end
  return told
end

local function said_by(all, model)
  for _, of_model in ipairs(all) do
    if of_model[1] == model then return of_model end
  end
  local of_model = { model, {} }
  insert(all, of_model)
  return of_model
end

local function is_told_alike(one, other)
  return one.amount == other.amount and one.period == other.period and one.correct == other.correct
    and one.refund == other.refund
end

-- Remember a told limit; whether it is news. Figures that cannot be kept exactly are not believed.
local function apply_told(name, model, told)
  local entry = {
    kind = told.kind, amount = told.limit, period = told.period, correct = told.correct, refund = told.refund,
    at = ledger.now,
  }
  if not limits.is_exact(told_spec(entry)) then return false end
  local all = told_at(name)
  local of_model = said_by(all, model)
  local others, before = {}, nil
  for _, other in ipairs(of_model[2]) do
    if other.kind == entry.kind then before = other else insert(others, other) end
  end
  local is_news = not before or not is_told_alike(before, entry)
  if is_news or ledger.now - before.at >= CONFIRMED then
    insert(others, entry)
    of_model[2] = others
    tables.put(tables.named("d", name), cmsgpack.pack(all))
  end
  return is_news
end

-- --- in force ------------------------------------------------------------------------------------------------------

local function selected(all, matches)
  local found = {}
  for _, spec in ipairs(all) do
    if matches(spec) then insert(found, spec) end
  end
  return found
end

local function strictest_slots(candidates)
  local fewest = candidates[1]
  for _, spec in ipairs(candidates) do
    if spec.amount < fewest.amount then fewest = spec end
  end
  return fewest
end

local function strictest(candidates)
  if candidates[1].kind == "concurrency" then return strictest_slots(candidates) end
  local slowest, burst, correct, refund = candidates[1], candidates[1].burst, true, true
  for _, spec in ipairs(candidates) do
    if exact.is_less(spec.amount, max(1, spec.period), slowest.amount, max(1, slowest.period)) then slowest = spec end
    burst, correct, refund = min(burst, spec.burst), correct and spec.correct, refund and spec.refund
  end
  return {
    kind = slowest.kind, amount = slowest.amount, burst = burst, period = slowest.period, source = slowest.source,
    correct = correct, refund = refund, anchor = slowest.anchor,
  }
end

-- One limit for each kind: the strictest configured, else told, else the strictest preset or guess; or what was learned
-- where that is stricter.
local function in_force(published, told)
  local chosen = {}
  for _, kind in ipairs(kinds.KINDS) do
    local mine = selected(published, function(spec) return spec.kind == kind end)
    local configured = selected(mine, function(spec) return spec.source == "configured" end)
    local heard = selected(told, function(spec) return spec.kind == kind end)
    local others = selected(mine, function(spec) return spec.source ~= "learned" end)
    local learned = selected(mine, function(spec) return spec.source == "learned" end)
    local found = {}
    for _, candidates in ipairs({ configured, heard, others }) do
      if #candidates > 0 then
        insert(found, strictest(candidates))
        break
      end
    end
    if #learned > 0 then insert(found, strictest(learned)) end
    if #found > 0 then insert(chosen, strictest(found)) end
  end
  return chosen
end

local function put_in_force(name, published, spread, learning)
  local node = ledger.new_node(name)
  if #node.limits == 0 and #node.retired == 0 then node.spread = spread end
  local old, order = {}, {}
  for _, list in ipairs({ node.retired, node.limits }) do
    for _, limit in ipairs(list) do
      if not old[limit.kind] then insert(order, limit.kind) end
      old[limit.kind] = limit
    end
  end
  node.limits, node.retired = {}, {}
  local specs = in_force(published, learned.believed(name, told_specs(name)))
  for _, spec in ipairs(learned.follow(name, specs, learning)) do
    local limit = limits.new_limit(spec, ledger.at)
    local known = old[limit.kind]
    old[limit.kind] = nil
    if known then limits.carry_over(limit, known, ledger.at) end
    buckets.set_guard(limit, node.spread)
    if not known and (spec.source == "preset" or spec.source == "guess") then limits.start_low(limit) end
    insert(node.limits, limit)
  end
  for _, kind in ipairs(order) do
    if old[kind] and kind ~= CONCURRENCY then insert(node.retired, old[kind]) end
  end
end

-- --- notices -------------------------------------------------------------------------------------------------------

local function figures(amount, burst, origin)
  return string.format("%.0f (burst %.0f) in %s", amount, burst, origin)
end

-- What live instances configured for each limit, in the order in which it is said.
local function configurations(specs)
  local said, by_limit = {}, {}
  for _, spec in ipairs(specs) do
    local groups = { { "", spec.limits }, unpack(spec.groups) }
    for _, group in ipairs(groups) do
      for _, limit in ipairs(group[2]) do
        if limit.source == "configured" then
          local name = group[1] .. "\0" .. limit.kind
          local of = by_limit[name]
          if not of then
            of = { pattern = group[1], kind = limit.kind, texts = {}, known = {} }
            by_limit[name] = of
            insert(said, of)
          end
          local key = string.format("%.0f %.0f %.0f", limit.amount, limit.burst, limit.period)
          if not of.known[key] then
            of.known[key] = true
            insert(of.texts, figures(limit.amount, limit.burst, spec.origin))
          end
        end
      end
    end
  end
  return said
end

-- A notice for each limit that live instances configured differently, naming the origins.
local function conflicts(account, specs)
  local notices = {}
  local whole = account == CLUSTER and "cluster" or account
  for _, of in ipairs(configurations(specs)) do
    if #of.texts > 1 then
      local place = string.gsub(whole .. " " .. of.pattern, "%s+$", "")
      local text = place .. ": " .. of.kind .. " is " .. table.concat(of.texts, " but ") .. "; the strictest holds"
      insert(notices, { topic = "limits-conflict", text = text })
    end
  end
  return notices
end

-- --- reserves ------------------------------------------------------------------------------------------------------

local function requests_per_minute(node)
  for _, limit in ipairs(node.limits) do
    if limit.kind == REQUESTS then return exact.muldiv(limit.amount, MINUTE, limit.period) end
  end
  return nil
end

-- Scale the reserves to what there is; where all stand as they are wanted, nobody's is looked at.
local function share_reserves(account, node)
  local total = 0
  for _, of in ipairs(node.reserved) do total = total + of[2] end
  local bound = requests_per_minute(node) or total
  local is_scaled = total > bound
  if is_scaled then
    local text = string.format(
      "%s: reserves add up to %.0f/min, the limit is %.0f/min; they are scaled down", account, total, bound
    )
    insert(ledger.notices, { topic = "reserve-scaled", text = text })
  end
  for _, of in ipairs((is_scaled or node.scaled) and node.reserved or {}) do
    local incarnation, wanted = of[1], of[2]
    ledger.flow(account, incarnation).reserve = is_scaled and floor(wanted * bound / total) or wanted
  end
  node.scaled = is_scaled
end

-- --- rebuilding ----------------------------------------------------------------------------------------------------

local function most_of(specs, field)
  local most = 0
  for _, spec in ipairs(specs) do most = max(most, spec[field]) end
  return most
end

-- All patterns of what is published, sorted; and the limits published for each.
local function published_groups(specs)
  local patterns, by_pattern = {}, {}
  for _, spec in ipairs(specs) do
    for _, group in ipairs(spec.groups) do
      if not by_pattern[group[1]] then
        by_pattern[group[1]] = {}
        insert(patterns, group[1])
      end
      for _, limit in ipairs(group[2]) do insert(by_pattern[group[1]], limit) end
    end
  end
  table.sort(patterns, tables.before)
  return patterns, by_pattern
end

local function is_same(one, other)
  if #one ~= #other then return false end
  for place, name in ipairs(one) do
    if other[place] ~= name then return false end
  end
  return true
end

-- Put in force what follows from the live instances' publications and the told limits.
local function rebuild(account)
  local specs = publications.specs_of(account)
  if #specs > 0 or account ~= CLUSTER then ledger.touched[account] = true end
  if #specs == 0 then return end
  local node, spread, own, said = ledger.new_node(account), most_of(specs, "spread"), {}, {}
  for place, spec in ipairs(specs) do
    said[place] = spec.learning or false
    for _, limit in ipairs(spec.limits) do insert(own, limit) end
  end
  local learning = learner.agreed(said)
  put_in_force(account, own, spread, learning)
  local patterns, by_pattern = published_groups(specs)
  for _, pattern in ipairs(node.patterns) do
    if not by_pattern[pattern] then put_in_force(ledger.group_node(account, pattern), {}, spread, learning) end
  end
  for _, pattern in ipairs(patterns) do
    put_in_force(ledger.group_node(account, pattern), by_pattern[pattern], spread, learning)
  end
  if node.revision == 0 or not is_same(patterns, node.patterns) then
    node.patterns, node.revision = patterns, node.revision + 1
  end
  node.ageing = most_of(specs, "ageing")
  if account ~= CLUSTER then share_reserves(account, node) end
end

-- Put in force what is left where something that an account or its groups were told has become too old.
local function let_told_fade(account)
  local node = ledger.node(account)
  local has_faded = forget_old(account)
  for _, pattern in ipairs(node and node.patterns or {}) do
    has_faded = forget_old(ledger.group_node(account, pattern)) or has_faded
  end
  if has_faded then rebuild(account) end
end

return {
  apply_told = apply_told, conflicts = conflicts, rebuild = rebuild, let_told_fade = let_told_fade,
}
