-- Constants, and the forms in which the records of nearly every operation are stored, as `struct` has them. Every
-- script begins with them. Figures are doubles: ten times faster to read than MessagePack.

local SECOND, MINUTE, FOREVER = 1000000, 60000000, 2 ^ 52
local EXACT = 2 ^ 53 -- doubles are exact below this
local CLUSTER = "" -- the name of the root node
local REQUESTS, REQUESTS_DAY, CONCURRENCY = 1, 2, 6 -- kinds; all but concurrency are buckets
local BUCKETS = 5
local UNITS = { 1, 1, 2, 3, 4 } -- by kind of bucket: its place in a permit's costs
local CONFIGURED, TOLD, LEARNED, GUESS = 1, 2, 3, 5 -- sources
local WAITING, OFFERED, HELD, GHOST = 0, 1, 2, 3 -- where a permit stands
local OFFER = 250000 -- how long an offer stands
local PEAKS = 8 -- heights that a bucket remembers for credits
local NEAR = 1024 -- heights that differ by less than this part of a full bucket are near each other

-- A node: the number of its figures, the figures, its lists as MessagePack. Of the figures these come first; then those
-- of each limit in force and of each retired one; then the peaks of all these limits, charge and level of each.
local NODE_FIGURES = 23
local N_LIMITS, N_RETIRED, N_CLUSTERED, N_HELD, N_ACCEPTED, N_SPREAD, N_WAITING, N_PAUSED_UNTIL, N_REVISION, N_EPOCHS =
  1, 2, 3, 4, 5, 6, 7, 8, 9, 10 -- three epochs; virtual, busy, three of armed, streak, ageing, departed_at
local N_GRANTED, N_WATCH, N_NOTABLE = 21, 22, 23

-- The figures of a limit, counted from the one before. Flags: 1 corrected, 2 refunded, 4 with an anchor.
local LIMIT_FIGURES = 16
local L_KIND, L_SOURCE, L_FLAGS, L_PEAKS, L_AMOUNT, L_BURST, L_PERIOD, L_ANCHOR = 1, 2, 3, 4, 5, 6, 7, 8
local L_NUM, L_DEN, L_CAP, L_LEVEL, L_AT, L_WINDOW, L_CHARGES, L_LOW = 9, 10, 11, 12, 13, 14, 15, 16

-- asleep, reserve, the present slot and its grants; those of eleven slots before, latest first; weight, level, at.
local FLOW = "<dddddddddddddddddd"

-- state, rank, reserved, clustered, number of nodes with marks; the four costs, arrival, deadline, the three epochs,
-- expires, share, the four of the stamp; account, group, model. The marks follow: five for each node.
local PERMIT = "<BBBBBdddddddddddddddI4c0I4c0I4c0"

-- number of heads; finish, busy, waiting. The heads follow: rank, start, arrival, seq.
local TAG, HEAD = "<Bddd", "<Bddd"

-- The operations Acquire and Settle as they are sent.
local ACQUIRE = "<ddddddddBBdI4c0I4c0I4c0I4c0"
local SETTLE = "<ddBBdddddd"
