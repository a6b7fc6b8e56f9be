-- Who claims tasks: the last seq of an incarnation that was answered with tasks, and whether it claims no more.

local tables = require "tables"

local function key(incarnation)
  return tables.numbered("v", incarnation)
end

local function put(incarnation, seq, has_retired)
  tables.put(key(incarnation), tables.number(seq) .. (has_retired and "\1" or ""))
end

-- The seq, 0 for none.
local function last_claim(incarnation)
  local value = tables.get(key(incarnation))
  return value and tables.number_at(value, 1) or 0
end

local function has_retired(value)
  return #value > 8
end

return { key = key, put = put, last_claim = last_claim, has_retired = has_retired }
