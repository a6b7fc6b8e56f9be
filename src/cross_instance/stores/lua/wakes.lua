-- Wake-ups: messages `SEQ AT` on the channel of a waiter's incarnation.

-- Tell the waiters of other incarnations than `own`, which finds its own wakes in the result.
local function publish(wakes, own)
  local channel = string.match(KEYS[1], "^{.-}") .. ":wake:"
  for _, wake in ipairs(wakes) do
    if wake.incarnation ~= own then
      local message = string.format("%.0f %.0f", wake.seq, wake.at)
      redis.call("PUBLISH", string.format("%s%.0f", channel, wake.incarnation), message)
    end
  end
end

return { publish = publish }
