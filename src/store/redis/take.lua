-- Takes from several limits at once, or from none: the generic cell rate algorithm over Redis's own clock.
--
-- `now` is what TIME says, `slack` how many milliseconds a key outlives its debt. KEYS: where the limits are counted. ARGV,
-- five for each key: nanoseconds from one token to the next, nanoseconds that a whole burst is worth, tokens that are taken,
-- how many more are taken if they are there, and 1 if the limit refuses nothing.
-- Returns 1 when all was taken or 0, then for each key how many nanoseconds it was in debt before.
--
-- A key holds when its debt will be paid, as seconds.nanoseconds. No number here exceeds 2^53, so doubles are exact.

local seconds, nanos = tonumber(now[1]), tonumber(now[2]) * 1000
local reply, limits = {1}, {}

for i, key in ipairs(KEYS) do
  local interval, capacity, cost, more, shadow = unpack(ARGV, 5 * i - 4, 5 * i)
  local limit = {
    interval = tonumber(interval), capacity = tonumber(capacity), cost = tonumber(cost), more = tonumber(more), fits = true
  }
  local debt = 0
  local paid = redis.call('GET', key)
  if paid then
    local s, n = string.match(paid, '^(%d+)%.(%d+)$')
    if s then
      debt = math.max(0, (tonumber(s) - seconds) * 1000000000 + (tonumber(n) - nanos))
    end
  end
  if limit.cost > 0 then
    debt = math.min(debt, limit.capacity)
    limit.fits = debt + limit.cost * limit.interval <= limit.capacity
    if not limit.fits and shadow ~= '1' then
      reply[1] = 0
    end
  end
  limits[i] = limit
  reply[i + 1] = debt
end

if reply[1] == 0 then
  return reply
end

for i, key in ipairs(KEYS) do
  local limit = limits[i]
  local debt = reply[i + 1] + limit.cost * limit.interval
  if limit.more > 0 then
    local room = math.floor((limit.capacity - debt) / limit.interval)
    debt = debt + limit.interval * math.max(0, math.min(limit.more, room))
  end
  if not limit.fits or debt == reply[i + 1] then
    -- Nothing is taken from it.
  elseif debt <= 0 then
    redis.call('DEL', key)
  else
    local rest = math.fmod(nanos + debt, 1000000000)
    local paid = string.format('%.0f.%09.0f', seconds + (nanos + debt - rest) / 1000000000, rest)
    redis.call('SET', key, paid, 'PX', string.format('%.0f', math.floor(debt / 1000000) + slack))
  end
end

return reply
