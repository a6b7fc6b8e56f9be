-- Which of several patterns decides for a model (as rules/patterns.py; its rules 1 to 4 hold here). Of letters beyond
-- ASCII case does matter.

local tables = require "tables"

-- How many characters a text has.
local function length(text)
  return select(2, string.gsub(text, "[^\128-\191]", ""))
end

local function is_glob(pattern)
  return string.find(pattern, "[*?]") ~= nil
end

-- A glob as Lua has it; `?` stands for one character.
local function compiled(pattern)
  local escaped = string.gsub(string.gsub(pattern, "%*+", "*"), "[%^%$%(%)%%%.%[%]%+%-]", "%%%0")
  local any = string.gsub(escaped, "%*", ".*")
  return "^" .. string.gsub(any, "%?", "[^\128-\191][\128-\191]*") .. "$"
end

local function matches(pattern, model)
  if pattern == model then return true end
  if pattern == "" or model == "" then return false end
  if is_glob(pattern) then return string.find(model, compiled(pattern)) ~= nil end
  return string.sub(model, 1, #pattern) == pattern or string.sub(pattern, 1, #model) == model
end

-- The smaller, the more specific, figure by figure; the pattern itself breaks ties.
local function vagueness(pattern, model)
  local is_longer = not is_glob(pattern) and length(pattern) > length(model)
  local literal = length((string.gsub(pattern, "[*?]", "")))
  return { pattern == model and 0 or 1, is_longer and 1 or 0, is_longer and literal or -literal, pattern }
end

local function is_less_vague(one, other)
  for place = 1, 3 do
    if one[place] ~= other[place] then return one[place] < other[place] end
  end
  return tables.before(one[4], other[4])
end

-- The pattern that decides for a model; "" where none matches.
local function most_specific(patterns, model)
  local chosen, least = "", nil
  model = string.lower(model)
  for _, pattern in ipairs(patterns) do
    local name = string.lower(pattern)
    local found = matches(name, model) and vagueness(name, model)
    if found and (not least or is_less_vague(found, least)) then chosen, least = pattern, found end
  end
  return chosen
end

return { most_specific = most_specific }
