-- Makes docs/report.svg, the picture in the README, of the tables that a run prints:
--   ./knbl scenarios/pod_to_svc.lua --json run.json && ./knbl docs/picture.lua <run.json >docs/report.svg
local core = require "knbl.native"
local json = require "knbl.json"
local table_format = require "knbl.format.table"

local SIZE, WIDTH, HEIGHT, MARGIN = 13, 7.8, 18, 16 -- of the font, of a character, of a line, around the text
local colours = { [1] = 'font-weight="bold"', [2] = 'fill="#8b949e"', [31] = 'fill="#ff7b72"',
  [32] = 'fill="#7ee787"', [33] = 'fill="#e3b341"' }

local function escape(text) return (text:gsub("[&<>]", { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;" })) end

-- A line with ANSI colours as text elements. Each part between wide spaces stands at its column, so that neither the
-- font's own width nor how a viewer collapses spaces matters.
local function elements(line, y)
  local out, column, colour = {}, 0, 0
  for text, code in (line .. "\27[0m"):gmatch "(.-)\27%[(%d+)m" do
    for spaces, part in text:gsub("  +", "\0%0"):gmatch "%z?( *)([^%z]*)" do
      column = column + #spaces
      local n, shown = utf8.len(part), part:gsub(" +$", "")
      if shown ~= "" then
        out[#out + 1] = ('<text x="%.1f" y="%d" textLength="%.1f" %s>%s</text>'):format(MARGIN + column * WIDTH, y,
          utf8.len(shown) * WIDTH, colours[colour] or "", escape(shown))
      end
      column = column + n
    end
    colour = tonumber(code)
  end
  return table.concat(out, "\n"), column
end

local data = json.decode(io.read "a")
local text = ("\27[1m$ knbl %s\27[0m\n"):format(data.scenario)
  .. table_format.render(data, { core = core, colour = true })
local body, widest, y = {}, 0, MARGIN + SIZE
for line in text:gmatch "([^\n]*)\n" do
  local made, columns = elements(line, y)
  body[#body + 1] = made
  widest, y = math.max(widest, columns), y + HEIGHT
end

io.write(([[
<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" role="img">
<title>knbl %s: %s, %s CPUs, Linux %s, %s</title>
<rect width="100%%" height="100%%" rx="8" fill="#0d1117"/>
<g fill="#e6edf3" font-family="ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace" font-size="%d"
 xml:space="preserve">
%s
</g>
</svg>
]]):format(math.ceil(widest * WIDTH) + 2 * MARGIN, y, data.knbl, escape(data.scenario), data.environment.cpus,
  data.environment.kernel, data.started:sub(1, 10), SIZE, table.concat(body, "\n")))
