-- Progress: on a terminal a table that fills and a bar with the time left; elsewhere a line for each measurement.
local lu = require "luaunit"
local core = require "knbl.native"
local progress = require "knbl.program.progress"

TestProgress = {}

local function entry(case, more)
  local e = { test = "tcp_rr", case = case, via = "service", flags = {}, ok = true, params = { size = 1 },
    metrics = { rate_per_s = 20000, latency_ns = { p99 = 500000, count = 20 } } }
  for key, value in pairs(more or {}) do e[key] = value end
  return e
end

-- A run of entries of ten seconds each, on a clock of its own. Returns all that was written, piece by piece.
local function run(entries, options)
  local now, out = 100, {}
  local fake = setmetatable({ now = function() return now end }, { __index = core })
  local p = progress.new { core = fake, write = function(s) out[#out + 1] = s end, terminal = options.terminal,
    ascii = options.ascii, columns = options.columns or 100, total = #entries, seconds = 10 * #entries,
    planned = entries }
  for _, e in ipairs(entries) do
    p:start(e, 10)
    now = now + 5
    p:running { phase = "run", elapsed_s = 5, ops = 100000 }
    now = now + 5 * (options.pace or 1)
    p:done(e)
  end
  p:close()
  return out
end

-- What is left on the screen: a line that is drawn again and again is gone.
local function screen(out)
  local text = table.concat(out):gsub("\r[^\n\r]*\27%[K", "")
  return text
end

function TestProgress.test_a_table_fills_and_the_line_goes()
  local entries = { entry "direct", entry("through it", { flags = { "other_work" } }),
    entry("gone", { ok = false, error = { message = "no route" } }), entry("kata", { skipped = "no such runtime" }) }
  lu.assertEquals(screen(run(entries, { terminal = true })), table.concat({
    "test    case                        figure         p99",
    "tcp_rr  direct (service)          20.0 k/s      500 µs",
    "tcp_rr  through it (service)      20.0 k/s      500 µs  other_work",
    "tcp_rr  gone (service)        failed: no route",
    "tcp_rr  kata (service)        skipped: no such runtime", "", "" }, "\n"))
end

function TestProgress.test_a_repeat_is_no_second_row_unless_it_failed()
  local text = screen(run({ entry "x", entry "x", entry("x", { ok = false, error = { message = "no" } }) },
    { terminal = true }))
  lu.assertEquals(select(2, text:gsub("\n", "")), 4)
  lu.assertStrContains(text, "failed: no")
end

function TestProgress.test_the_bar_and_the_time_left()
  local out = table.concat(run({ entry "x", entry "y" }, { terminal = true, ascii = true }))
  lu.assertStrContains(out, "\r....................  1 of 2  20s to go  tcp_rr x (service)  starting\27[K")
  lu.assertStrContains(out, "\r#####...............  1 of 2  15s to go  tcp_rr x (service)  20.0 k/s\27[K")
  lu.assertStrContains(out, "\r###############.....  2 of 2  5s to go  tcp_rr y (service)  20.0 k/s\27[K")
  -- each takes three times as long as planned: so will the rest
  out = table.concat(run({ entry "x", entry "y" }, { terminal = true, ascii = true, pace = 5 }))
  lu.assertStrContains(out, "\r##########..........  2 of 2  30s to go  tcp_rr y")
end

function TestProgress.test_no_line_is_wider_than_the_terminal()
  for columns = 20, 120, 25 do
    local out = run({ entry(("z"):rep(200), { flags = { "other_work", "throttled", "paused" } }),
      entry("y", { ok = false, error = { message = ("long "):rep(50) } }) }, { terminal = true, columns = columns })
    for line in table.concat(out):gsub("\27%[K", ""):gmatch "[^\r\n]+" do
      lu.assertTrue(utf8.len(line) < math.max(columns, 60), ("%d: %s"):format(columns, line))
    end
  end
end

function TestProgress.test_no_terminal_no_table()
  lu.assertEquals(table.concat(run({ entry("x", { flags = { "too_few_samples" } }), entry "y" }, {})),
    "[1/2] tcp_rr x (service): 20.0 k/s, p99 500 µs (too_few_samples: 20, p99 wants 1000)\n"
    .. "[2/2] tcp_rr y (service): 20.0 k/s, p99 500 µs\n")
end

os.exit(lu.LuaUnit.run())
