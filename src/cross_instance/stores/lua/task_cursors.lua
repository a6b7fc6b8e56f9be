-- Cursors: how a list goes on from an earlier page. A cursor is the last key of that page without the id behind it, as
-- hexadecimal digits; it is sent back as the bytes.

local desk = require "task_desk"
local tables = require "tables"

-- The keys after a cursor ("": from the first on), at most so many. `size`: of a key without the id.
local function scan(prefix, size, most, after)
  if not tables.before(prefix, after) then return desk.scan(prefix, most) end
  if #after >= size then after = string.sub(after, 1, size) .. "\255" end
  return desk.scan(prefix, most, after)
end

local function told(key, size)
  local digits = {}
  for place = 1, size do digits[place] = string.format("%02x", string.byte(key, place)) end
  return table.concat(digits)
end

return { scan = scan, told = told }
