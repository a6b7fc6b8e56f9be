-- What the live instances publish for an account (as rules/publications.py): each distinct spec once, as it came, and
-- who published which.
--
-- 1. Equal specs are one, whoever publishes them and whichever file he has them from.
-- 2. A spec stays as long as a live instance publishes it. Specs stand in the order in which they were first published.
-- 3. The origin that is told of a spec is that of the first live instance that publishes it.

local tables = require "tables"

local NOTHING = 0 -- stands for the number of a spec where an instance has withdrawn what it published

local function spec_key(account, number)
  return tables.named("C", account) .. tables.number(number)
end

-- The prefix of all who publish a spec.
local function publishers(account, number)
  return tables.named("c", account) .. tables.number(number)
end

local function kept_specs(account)
  local keys = tables.scan(tables.named("C", account))
  tables.fetch(keys)
  return keys
end

-- The distinct specs that live instances publish for an account.
local function specs_of(account)
  local specs = {}
  for place, key in ipairs(kept_specs(account)) do
    local spec = cmsgpack.unpack(tables.get(key))
    spec.origin = tables.get(tables.first(publishers(account, tables.number_at(key, #key - 7))))
    specs[place] = spec
  end
  return specs
end

-- The live instances that publish something for an account.
local function publishers_of(account)
  local incarnations = {}
  for place, key in ipairs(tables.scan(tables.named("c", account))) do
    incarnations[place] = tables.number_at(key, #key - 7)
  end
  return incarnations
end

-- Whether any live instance publishes anything for an account.
local function is_published(account)
  return tables.first(tables.named("C", account)) ~= nil
end

-- The number of a spec, which is kept from now on where it was not.
local function keep(account, spec)
  local number = NOTHING
  for _, key in ipairs(kept_specs(account)) do
    number = tables.number_at(key, #key - 7)
    if tables.get(key) == spec then return number end
  end
  local key = spec_key(account, number + 1)
  tables.put(key, spec)
  tables.index(key)
  return number + 1
end

local function forget(key)
  tables.unindex(key)
  tables.delete(key)
end

-- Take an instance from those who publish a spec; with the last of them goes the spec.
local function drop(account, number, incarnation)
  if number == NOTHING then return end
  local prefix = publishers(account, number)
  forget(prefix .. tables.number(incarnation))
  if not tables.first(prefix) then forget(spec_key(account, number)) end
end

local function place_of(instance, account)
  for place, name in ipairs(instance.accounts) do
    if name == account then return place end
  end
end

-- Have an instance say so from now on. For the cluster a spec without limits withdraws what it said before.
local function publish(incarnation, instance, account, spec, origin)
  local place = place_of(instance, account)
  if not place then
    place = #instance.accounts + 1
    instance.accounts[place], instance.specs[place] = account, NOTHING
  end
  local before, number = instance.specs[place], NOTHING
  if account ~= CLUSTER or #cmsgpack.unpack(spec).limits > 0 then number = keep(account, spec) end
  instance.specs[place] = number
  if number ~= before then drop(account, before, incarnation) end
  if number == NOTHING then return end
  local key = publishers(account, number) .. tables.number(incarnation)
  tables.put(key, origin)
  tables.index(key)
end

-- Forget what a departing instance published for one of its accounts.
local function withdraw(incarnation, instance, account)
  drop(account, instance.specs[place_of(instance, account)], incarnation)
end

return {
  specs_of = specs_of, publishers_of = publishers_of, is_published = is_published, publish = publish,
  withdraw = withdraw,
}
