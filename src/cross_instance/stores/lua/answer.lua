-- The answer: the result's name, and its fields. Whatever was changed is written first.

local tables = require "tables"

local function of(name, fields)
  fields.at = tables.at
  tables.close()
  return name .. "\n" .. cmsgpack.pack(fields)
end

-- The same, where `count` (at most 14) fields are MessagePack already.
local function packed(name, count, fields)
  tables.close()
  return name .. "\n" .. string.char(129 + count) .. cmsgpack.pack("at", tables.at) .. fields
end

-- The operation's own figures are refused; nothing is written.
local function refusal(text)
  return "ValueError\n" .. cmsgpack.pack(text)
end

return { of = of, packed = packed, refusal = refusal }
