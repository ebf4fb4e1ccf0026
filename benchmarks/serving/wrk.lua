-- Sends a cycle of requests and reports in one line of JSON on standard error.
-- Argument: a file of requests, one a line: method, path, type and body, parted by tabs; a body that
-- is not text is in hexadecimal.

local requests, position = {}, 0
local rehearsed = false
local threads = {}
sent, posts = 0, 0 -- global: done() asks the thread for them

function setup(thread)
  threads[#threads + 1] = thread
end

function init(arguments)
  local only_path
  for line in io.lines(arguments[1]) do
    local method, path, kind, body = line:match("^(%u+)\t([^\t]+)\t([^\t]+)\t(.*)$")
    if kind == "application/octet-stream" then
      body = body:gsub("%x%x", function(byte) return string.char(tonumber(byte, 16)) end)
    end
    local headers = { ["Content-Type"] = kind }
    local is_post = method == "POST"
    only_path = path
    requests[#requests + 1] = {
      bytes = wrk.format(method, path, is_post and headers or {}, is_post and body or nil),
      posts = is_post and 1 or 0,
    }
  end
  if #requests == 1 then -- wrk is faster with a request of its own than with a script's
    wrk.method, wrk.path, request = "GET", only_path, nil
  end
end

function request()
  if not rehearsed then -- wrk looks at a first request that it does not send
    rehearsed = true
    return requests[1].bytes
  end
  position = position % #requests + 1
  local next_one = requests[position]
  sent, posts = sent + 1, posts + next_one.posts
  return next_one.bytes
end

function done(summary, latency, _)
  local sent_in_all, posts_in_all = 0, 0
  for _, thread in ipairs(threads) do
    sent_in_all = sent_in_all + thread:get("sent")
    posts_in_all = posts_in_all + thread:get("posts")
  end
  if sent_in_all == 0 then -- it sent its own
    sent_in_all = summary.requests
  end
  local errors = summary.errors
  io.stderr:write(string.format(
    '{"seconds": %.6f, "completed": %d, "sent": %d, "posts": %d, "refused": %d, "errors": %d, '
      .. '"p50_us": %.3f, "p99_us": %.3f, "p999_us": %.3f}\n',
    summary.duration / 1e6, summary.requests, sent_in_all, posts_in_all, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50), latency:percentile(99), latency:percentile(99.9)
  ))
end
