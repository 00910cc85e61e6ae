-- knbl.format.html_mesh - the meshes of a ledger on the page: the verdict, the maps, the worst nodes.
local chart = require "knbl.format.chart"
local mesh_text = require "knbl.format.mesh"
local rough = require "knbl.base.text".rough

local M = {}

local escape = chart.escape

M.style = [[
.map{border-collapse:collapse;font-size:.7rem;line-height:1}.map td{border:1px solid var(--page);padding:0;
min-width:.95rem;height:.95rem}.map th{border:0;padding:0 .4rem 0 0;font-weight:400;text-align:right;position:static}
.map td.c0{background:color-mix(in srgb,var(--good) 35%,var(--card))}.map td.c1{background:#f2e3a0}
.map td.c2{background:#f0b34d}.map td.c3{background:#e0693a}.map td.c4{background:#a8161b}
.map tr.zone th{font-weight:600;padding-top:.5rem;text-align:left}.map .zone-edge{border-left:3px solid var(--ink)}
.map-key span{display:inline-block;margin-right:.9rem;white-space:nowrap}
.map-key i{display:inline-block;width:.8em;height:.8em;margin-right:.3em;vertical-align:-.05em}
.map-key i.c0{background:color-mix(in srgb,var(--good) 35%,var(--card))}.map-key i.c1{background:#f2e3a0}
.map-key i.c2{background:#f0b34d}.map-key i.c3{background:#e0693a}.map-key i.c4{background:#a8161b}
.findings li{margin:.25rem 0}
]]

local function change_text(figure, change)
  if figure == "loss" then return rough(change * 100) .. " % lost" end
  if change >= 1 then return ("%.3g times the usual"):format(change + 1) end
  return ("%+.0f %%"):format(change * 100)
end

local function key_html()
  local out = { '<p class="map-key"><small><span><i class="c0"></i>usual</span>' }
  for k, name in ipairs(mesh_text.level_names) do
    out[#out + 1] = ('<span><i class="c%d"></i>worse by %s or more</span>'):format(k, escape(name))
  end
  return table.concat(out) .. "</small></p>"
end

local function map_html(core, mesh, one, figure)
  local by, n = mesh_text.grid(figure), #mesh.groups
  local out = { ("<figure><figcaption>%s, %s: client down, server across <small>%s</small></figcaption>"):format(
    escape(one.test), escape(mesh_text.title(figure.figure)), escape(mesh_text.usual(core, figure))), key_html(),
    '<div class="wide"><table class="map">' }
  local zone
  for r, group in ipairs(mesh.groups) do
    if group.zone and group.zone ~= zone then
      out[#out + 1] = ('<tr class="zone"><th colspan="%d">zone %s</th></tr>'):format(n + 1, escape(group.zone))
    end
    zone = group.zone
    out[#out + 1] = "<tr><th>" .. escape(group.name) .. "</th>"
    for c = 1, n do
      local other, change = mesh.groups[c], by[r] and by[r][c]
      local edge = c > 1 and other.zone ~= mesh.groups[c - 1].zone and " zone-edge" or ""
      out[#out + 1] = change and ('<td class="c%d%s" title="%s → %s: %s"></td>'):format(mesh_text.level(figure.figure,
        change), edge, escape(group.name), escape(other.name), escape(change_text(figure.figure, change)))
        or ('<td class="%s"></td>'):format(edge)
    end
    out[#out + 1] = "</tr>"
  end
  out[#out + 1] = "</table></div></figure>"
  return table.concat(out)
end

local function worst_html(core, mesh)
  local rows = mesh_text.worst(core, mesh)
  if not rows then return "" end
  local out = { '<div class="wide"><table class="data">' }
  for i, row in ipairs(rows) do
    out[#out + 1] = i == 1 and "<thead><tr>" or "<tr>"
    for k, cell in ipairs(row) do
      local tag = i == 1 and "th" or "td"
      out[#out + 1] = ("<%s%s>%s</%s>"):format(tag, k > 3 and ' class="n"' or "", escape(cell), tag)
    end
    out[#out + 1] = i == 1 and "</tr></thead><tbody>" or "</tr>"
  end
  return table.concat(out) .. "</tbody></table></div>"
end

-- The verdict, for the top of the page.
function M.lead(data)
  local out = {}
  for _, mesh in ipairs(data.meshes or {}) do
    out[#out + 1] = '<ul class="findings">'
    for _, sentence in ipairs(mesh.sentences) do out[#out + 1] = "<li>" .. escape(sentence) .. "</li>" end
    out[#out + 1] = "</ul>"
  end
  return table.concat(out)
end

function M.html(data, core)
  local out = {}
  for _, mesh in ipairs(data.meshes or {}) do
    out[#out + 1] = "<h2>Mesh</h2><p>" .. escape(mesh_text.summary(mesh)) .. "</p>"
    for _, note in ipairs(mesh.notes or {}) do
      out[#out + 1] = '<p class="warning"><small>' .. escape(note) .. "</small></p>"
    end
    if #mesh.missing > 0 then out[#out + 1] = "<p>Missing: " .. escape(mesh_text.missing(mesh)) .. "</p>" end
    for _, one in ipairs(mesh.unsure and {} or mesh.tests) do
      for _, figure in ipairs(one.figures) do
        if figure.cells then out[#out + 1] = map_html(core, mesh, one, figure) end
      end
    end
    if not mesh.unsure then out[#out + 1] = worst_html(core, mesh) end
  end
  return table.concat(out)
end

return M
