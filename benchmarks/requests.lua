-- Sends the prepared requests of a file, each with the next number in place of the mark, and at the end prints the
-- measurements of wrk as one line of JSON. Arguments: the file, "random" or "sequential", a seed, the first number.
local MARK = '##########'
local heads, tails, order, number = {}, {}, nil, nil

function init(args)
  local file = assert(io.open(args[1], 'rb'))
  for request in file:read('*a'):gmatch('[^%z]+') do
    local from, to = request:find(MARK, 1, true)
    heads[#heads + 1] = from and request:sub(1, from - 1) or request
    tails[#tails + 1] = from and request:sub(to + 1) or false
  end
  file:close()
  order = args[2]
  math.randomseed(tonumber(args[3]))
  number = tonumber(args[4])
end

function request()
  local index = order == 'random' and math.random(#heads) or (number - 1) % #heads + 1
  local counted = number
  number = number + 1
  if not tails[index] then return heads[index] end
  return heads[index] .. string.format('%010d', counted) .. tails[index]
end

function done(summary, latency, _)
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests":%d,"microseconds":%d,"p50":%d,"p90":%d,"p99":%d,"max":%d,'
      .. '"refused":%d,"broken":%d,"timeouts":%d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(90), latency:percentile(99),
    latency.max, errors.status, errors.connect + errors.read + errors.write, errors.timeout))
end
