-- knbl.format.html_style - the style and the script of the page (html.lua). The page is complete without the script:
-- it sorts and filters tables, picks one curve of a chart out, and unfolds everything for a printer.
local M = {}

M.style = [[
:root{color-scheme:light dark;--ink:#1c2126;--soft:#5d6873;--line:#d7dde3;--page:#fff;--card:#f6f8fa;--bar:#2f6fb3;
--doubt:#946c00;--on:#fff;--good:#1a7f37;--bad:#c0392b;
--s1:#2f6fb3;--s2:#d9822b;--s3:#2e8b57;--s4:#b3395b;--s5:#7a5bb5;--s6:#148a8a;--s7:#8a6d3b;--s8:#59636e}
@media screen and (prefers-color-scheme:dark){:root{--ink:#e6e9ec;--soft:#9aa5b1;--line:#39424c;--page:#14181c;
--card:#1c2228;--bar:#5b9bd9;--doubt:#e0b040;--on:#14181c;--good:#4cc26a;--bad:#ff7b6b;
--s1:#5b9bd9;--s2:#f0a050;--s3:#5cc08a;--s4:#e8708f;--s5:#ad93e6;--s6:#4cc4c4;--s7:#c9a66b;--s8:#a0abb6}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:84rem;padding:1.2rem;font:16px/1.5 system-ui,sans-serif;color:var(--ink);
background:var(--page)}
h1{font-size:1.5rem;line-height:1.25;margin:.2rem 0}h2{font-size:1.15rem;margin:2rem 0 .5rem}
h3{font-size:1rem;margin:1.2rem 0 .2rem}p,ul{margin:.4rem 0}.soft,small{color:var(--soft)}.wide{overflow-x:auto}
.lead .answer{font-size:1.08rem;max-width:66rem}
nav{font-size:.88rem;margin:1rem 0;line-height:1.9}nav a{margin-right:.9rem}a{color:var(--bar)}
nav details{display:inline-block;vertical-align:top;margin:0}nav ul{list-style:none;padding:0;columns:2 20rem}
.wide{background:linear-gradient(to left,var(--page) 40%,transparent) 100% 0/2.5rem 100% no-repeat local,
linear-gradient(to left,var(--line),transparent) 100% 0/1rem 100% no-repeat scroll}figure .wide{background:none}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.92rem}
th,td{padding:.25rem .7rem .25rem 0;border-bottom:1px solid var(--line);white-space:nowrap;text-align:left}
td.n,th.n{text-align:right;padding-left:.7rem}td.skip{color:var(--soft)}td.doubt{color:var(--doubt)}
th button{font:inherit;color:inherit;background:none;border:0;padding:0;cursor:pointer}
th button:hover{text-decoration:underline}th[aria-sort] button:after{content:" ▲";font-size:.7em}
th[aria-sort=descending] button:after{content:" ▼"}
.filter{font-size:.88rem;margin:.3rem 0}.filter input{font:inherit;color:inherit;background:var(--card);width:16rem;
max-width:100%;border:1px solid var(--line);border-radius:.3rem;padding:.15rem .5rem}
.verdict{display:inline-block;padding:.15rem .7rem;border-radius:1rem;font-weight:600;color:var(--on);
background:var(--soft)}
.dots .verdict{width:.7rem;height:1.1rem;padding:0;border-radius:.2rem;margin-right:.15rem;vertical-align:middle}
svg.spark{width:7.5rem;height:1.5rem}
.verdict.pass{background:var(--good)}.verdict.fail,.verdict.error{background:var(--bad)}
.verdict.inconclusive{background:var(--doubt)}
figure{max-width:66rem;margin:1rem 0;padding:.8rem;background:var(--card);border-radius:.5rem;break-inside:avoid;
overflow-x:auto}
figcaption{font-weight:600}figcaption small{font-weight:400}
td.wrap{white-space:normal;min-width:9rem}
.worse{color:var(--bad)}.better{color:var(--good)}
th:first-child,td:first-child{position:sticky;left:0;background:var(--page)}
figure th:first-child{background:var(--card)}
svg{width:100%;max-width:64rem;height:auto;display:block;font:12px system-ui,sans-serif}svg text{fill:var(--ink)}
.end{text-anchor:end}.mid{text-anchor:middle}
.minis{display:grid;grid-template-columns:repeat(auto-fill,minmax(18.5rem,1fr));gap:.6rem 1rem;margin:.4rem 0}
.minis>div>b{font-size:.82rem;overflow-wrap:anywhere}
.bars{display:grid;grid-template-columns:fit-content(20rem) 1fr auto;gap:.35rem .8rem;align-items:center;
font-size:.85rem;margin:.5rem 0 0;max-width:64rem}
.name{text-align:right;overflow-wrap:anywhere}.value{font-variant-numeric:tabular-nums;text-align:right}
.track{position:relative;height:1.15em;min-width:5rem}
.bar{position:absolute;top:0;bottom:0;left:0;min-width:1px;background:var(--bar)}.bar.doubtful{background:var(--doubt)}
.whisker{position:absolute;top:25%;bottom:25%;border:solid var(--ink);border-width:0 1px;
background:linear-gradient(var(--ink),var(--ink)) center/100% 1px no-repeat}.whisker.open{border-right:0}
.pairs{display:grid;grid-template-columns:fit-content(16rem) 1fr auto minmax(5rem,11rem) auto;gap:0 .8rem;
align-items:center;font-size:.85rem;margin:.5rem 0 0;max-width:64rem;line-height:1.35}
.pairs .rule{grid-column:1/-1;height:.45rem}.pairs .first{grid-column:1}
.forest{position:relative;height:1.15em;
background:linear-gradient(var(--soft),var(--soft)) center/1px 100% no-repeat}
.range{position:absolute;top:50%;height:2px;margin-top:-1px;background:var(--soft);min-width:1px}
.spot{position:absolute;top:50%;width:8px;height:8px;margin:-4px;border-radius:50%;background:var(--page);
border:2px solid var(--soft)}
.spot.better,.range.better{background:var(--good);border-color:var(--good)}
.spot.worse,.range.worse{background:var(--bad);border-color:var(--bad)}.range{border:0}
.by{font-variant-numeric:tabular-nums;text-align:right;color:var(--soft);white-space:nowrap}
.by.worse{color:var(--bad);font-weight:600}.by.better{color:var(--good);font-weight:600}
.axis{stroke:var(--ink);fill:none}.grid{stroke:var(--line);fill:none}
.moment{stroke:var(--ink);fill:none;stroke-dasharray:4 3}
details{margin:.6rem 0 0}summary{cursor:pointer;font-size:.9rem}.area{opacity:.85}.line{fill:none;stroke-width:2}
.legend{font-size:.85rem;margin:.3rem 0 0}
.key{margin-right:1rem;white-space:nowrap}.key:before{content:"";display:inline-block;width:.8em;height:.8em;
margin-right:.35em;border-radius:2px;background:currentColor}.key[tabindex]{cursor:pointer}
.heat td{text-align:center;padding:.4rem .7rem;
background:color-mix(in srgb,var(--good) calc(var(--h,0)*55%),transparent)}
@media(max-width:40rem){body{padding:.8rem}h1{font-size:1.25rem}
.bars{grid-template-columns:1fr auto;gap:.1rem .8rem}.name{grid-column:1/-1;text-align:left;margin-top:.3rem}
.pairs{grid-template-columns:1fr auto 4.5rem auto;gap:0 .5rem}.pairs .first{grid-column:1/-1}
.pairs .first:empty{display:none}
svg{font-size:18px}svg.mini{font-size:12px}.small{font-size:12px}svg:not(.mini) .alt{display:none}
figure{padding:.6rem .4rem}.long{white-space:normal;min-width:8.5rem;max-width:38vw}td.wrap{min-width:4rem}}
@media print{:root{color-scheme:light;--ink:#000;--soft:#444;--line:#bbb;--card:#fff}
*{print-color-adjust:exact;-webkit-print-color-adjust:exact}.wide,figure{overflow:visible;background:none}
body{max-width:none}figure{border:1px solid var(--line)}nav,.filter,figure details:not([open]){display:none}
table{font-size:.75rem}th,td{padding:.15rem .4rem .15rem 0}td.n,th.n{padding-left:.2rem}
th:first-child,td:first-child{position:static}tr{break-inside:avoid}thead{display:table-header-group}
.many{font-size:.6rem}.many th,.many td{white-space:normal}.many td:first-child{min-width:6rem}}
]]
for i = 1, 8 do
  M.style = M.style .. (".line.s%d{stroke:var(--s%d)}.dot.s%d,.area.s%d{fill:var(--s%d)}.key.s%d{color:var(--s%d)}"
    .. ".bar.s%d{background:var(--s%d)}"):format(i, i, i, i, i, i, i, i, i)
end

M.script = [=[
"use strict";
const make = (tag, set) => Object.assign(document.createElement(tag), set);

// A table whose heads sort it: up, down, and back to its own order. What has no value stands at the end.
const valueOf = (row, i) => {
  const cell = row.cells[i];
  return cell.dataset.v === undefined ? cell.classList.contains("n") ? NaN : cell.textContent : +cell.dataset.v;
};
function order(table, rows, i, way) {
  const sorted = way === "none" ? rows : [...rows].sort((a, b) => {
    const x = valueOf(a, i), y = valueOf(b, i);
    if (x !== x || y !== y) return (x !== x) - (y !== y);
    const by = typeof x === "number" ? x - y : x.localeCompare(y, undefined, { numeric: true });
    return way === "ascending" ? by : -by;
  });
  table.tBodies[0].append(...sorted);
}
function sortable(table) {
  const rows = [...table.tBodies[0].rows], heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, i) => {
    const button = make("button", { type: "button", textContent: head.textContent, title: "sort" });
    head.replaceChildren(button);
    button.onclick = () => {
      const was = head.getAttribute("aria-sort");
      const way = was === "ascending" ? "descending" : was === "descending" ? "none" : "ascending";
      heads.forEach(other => other.removeAttribute("aria-sort"));
      if (way !== "none") head.setAttribute("aria-sort", way);
      order(table, rows, i, way);
    };
  });
}

// Rows that hold every word stay.
function filterable(table) {
  const rows = [...table.tBodies[0].rows], line = make("p", { className: "filter" });
  const field = make("input", { type: "search", placeholder: "Filter rows" }), count = make("small", {});
  field.setAttribute("aria-label", "Filter rows");
  count.setAttribute("aria-live", "polite");
  line.append(field, " ", count);
  table.parentNode.before(line);
  field.oninput = () => {
    const words = field.value.toLowerCase().split(/\s+/).filter(word => word);
    let shown = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every(word => text.includes(word));
      shown += !row.hidden;
    }
    count.textContent = words.length ? `${shown} of ${rows.length}` : "";
  };
}
for (const table of document.querySelectorAll("table.data")) {
  const n = table.tBodies[0].rows.length;
  if (n > 1) sortable(table);
  if (n > 5) filterable(table);
}

// Pointing at a key shows its curves alone; a click or Enter keeps it so.
for (const figure of document.querySelectorAll("figure")) {
  const marks = figure.querySelectorAll(".line,.dot");
  const keys = [...figure.querySelectorAll(".legend .key")].filter(key => !figure.contains(key.closest("details")));
  const only = new Set();
  const show = key => {
    const shades = key ? [key.classList[1]] : [...only];
    for (const mark of marks) mark.style.opacity = !shades.length || shades.includes(mark.classList[1]) ? "" : .1;
  };
  if (keys.length < 2 || !marks.length) continue;
  for (const key of keys) {
    key.tabIndex = 0;
    key.setAttribute("role", "button");
    key.setAttribute("aria-pressed", "false");
    key.onclick = () => {
      const shade = key.classList[1];
      if (!only.delete(shade)) only.add(shade);
      key.setAttribute("aria-pressed", only.has(shade));
      key.style.textDecoration = only.has(shade) ? "underline" : "";
      show();
    };
    key.onkeydown = event => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      key.onclick();
    };
    key.onmouseenter = () => show(key);
    key.onmouseleave = () => show();
  }
}

// A link to what is folded unfolds it. On paper the charts are unfolded, but not what each has below it.
const unfold = () => {
  let at = location.hash && document.getElementById(location.hash.slice(1));
  for (; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
};
addEventListener("hashchange", unfold);
unfold();
addEventListener("beforeprint", () => document.querySelectorAll("body>details").forEach(d => d.open = true));
]=]

return M
