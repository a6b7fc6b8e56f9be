-- The clock: the server's own, made to never run backwards. Every script begins with it.
--
-- 1. Only this function asks for the time, once in a decision.
-- 2. Where the server's clock was set back (or a replica with a slower one took over), `mono` goes on from the
--    latest instant that was ever stored; `wall` is what the server says.

local CLOCK = "@" -- where the latest instant is stored

-- `stored` is what the last reading left, or false. The instant as mono and wall, and what to store.
local function read_clock(stored)
  local time = redis.call("TIME")
  local wall, ahead = time[1] * 1000000 + time[2], 0
  if stored then
    local last
    last, ahead = struct.unpack(">I8I8", stored)
    if wall < last then ahead = ahead + last - wall end
  end
  return wall + ahead, wall, struct.pack(">I8I8", wall, ahead)
end
