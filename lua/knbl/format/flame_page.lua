-- knbl.format.flame_page - what the page of flame graphs is made of beside its data: its style, its body, its script.
-- Nothing is fetched.
local M = {}

M.style = [[
:root{color-scheme:light dark;--ink:#1c2126;--soft:#5d6873;--line:#d7dde3;--page:#fff;--card:#f6f8fa;
--sat:75%;--light:74%;--mark:#8a3ffc;--more:0,100%;--flat:#dfe3e7}
@media screen and (prefers-color-scheme:dark){:root{
--ink:#e6e9ec;--soft:#9aa5b1;--line:#39424c;--page:#14181c;--card:#1c2228;
--sat:38%;--light:31%;--mark:#b98cff;--flat:#39424c}}
*{box-sizing:border-box}body{margin:0 auto;max-width:100rem;padding:1.2rem;
font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--page)}
h1{font-size:1.4rem;line-height:1.25;margin:.2rem 0 .6rem}h2{font-size:1.1rem;margin:1.6rem 0 .4rem}
p{margin:.4rem 0}.soft,small{color:var(--soft)}
.controls{display:flex;flex-wrap:wrap;gap:.5rem 1rem;align-items:center;margin:.6rem 0}
label{white-space:nowrap;max-width:100%}
select,input,button{font:inherit;color:inherit;background:var(--card);border:1px solid var(--line);border-radius:.3rem;
padding:.2rem .5rem;max-width:100%}
select{max-width:24rem;text-overflow:ellipsis}button{cursor:pointer}
#info{min-height:3em;margin:.3rem 0;font-variant-numeric:tabular-nums;overflow-wrap:anywhere}
#graph{position:relative;overflow:hidden;background:var(--card);border-radius:.4rem}
.f{position:absolute;height:17px;line-height:16px;font-size:12px;padding:0 3px;overflow:hidden;white-space:nowrap;
text-overflow:ellipsis;cursor:pointer;border-radius:2px;border-right:1px solid var(--page);color:var(--ink);
background:hsl(var(--h) var(--sat) calc(var(--light) + var(--v)))}
.f.d{background:color-mix(in srgb,var(--to) var(--t),var(--flat))}.f.above{opacity:.55}
.f:hover,.f:focus{outline:2px solid var(--ink);outline-offset:-2px;z-index:1}
.f.hit{background:var(--mark);color:var(--page)}
.key:before{content:"";display:inline-block;width:.8em;height:.8em;margin:0 .35em 0 .9em;
border-radius:2px;background:var(--c)}
.wide{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.92rem}
th,td{padding:.2rem .9rem .2rem 0;border-bottom:1px solid var(--line);white-space:nowrap;text-align:left}
td.n,th.n{text-align:right}
.kernel{--c:hsl(28 var(--sat) var(--light))}.user{--c:hsl(205 var(--sat) var(--light))}
.process{--c:hsl(140 calc(var(--sat)*.5) var(--light))}
.more{--c:#e0523a}.less{--c:#3a7de0}
@media print{.controls{display:none}}
]]

M.body = [[
<div class="controls">
<label>Show <select id="a"></select></label>
<label>compared with <select id="b"></select></label>
<button id="swap" title="the other way round">&#8644;</button>
<label>Search <input id="find" type="search" placeholder="nf_conntrack" size="16" spellcheck="false"></label>
<label><input id="rest" type="checkbox"> with what else ran</label>
<button id="reset">Whole graph</button></div>
<p id="sentence"></p>
<p class="soft" id="keys"></p>
<div id="info" class="soft" aria-live="polite"></div>
<div id="graph" role="img" aria-label="flame graph"></div>
<h2>Kernel functions</h2>
<div class="wide"><table id="functions"></table></div>
<p><small>Own time is what a function spends itself, the other counts what it calls as well.</small></p>
<noscript><p>The graph is drawn by a script of this page; allow it, or use
<code>knbl report FILE --folded FILE</code>.</p></noscript>
]]

M.script = [=[
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const $ = id => document.getElementById(id);
const ROW = 18, KINDS = { p: "process", k: "kernel", u: "user", m: "machine" };
const HUES = { p: 140, k: 28, u: 205, m: 260 };
let root, zoomed, compared, needle = "";

function time(ns) {
  if (ns === 0) return "0";
  const a = Math.abs(ns), sign = ns < 0 ? "\u2212" : "";
  const [x, unit] = a >= 1e9 ? [a / 1e9, "s"] : a >= 1e6 ? [a / 1e6, "ms"]
    : a >= 1e3 ? [a / 1e3, "\u00b5s"] : [a, "ns"];
  return sign + (x >= 100 ? x.toFixed(0) : x.toPrecision(3)) + " " + unit;
}
const signed = ns => (ns > 0 ? "+" : "") + time(ns);
const share = (x, of) => of > 0 ? (100 * x / of).toFixed(1) + " %" : "";

// ---- the tree: two measurements laid over each other, a is what is shown, b what it is compared with ----
function node(name, kind, parent) {
  const depth = parent ? parent.depth + 1 : 0;
  return { name, kind, parent, depth, a: 0, b: 0, selfA: 0, selfB: 0, children: new Map() };
}
function pour(into, group, total, self) {
  const at = [into], others = $("rest").checked ? new Set() : new Set(group.others);
  group.parents.forEach((p, i) => {
    if (others.has(i + 1) || (p > 0 && !at[p])) return;
    const name = group.frames[group.names[i]], kind = group.kinds[group.names[i]], key = kind + name, parent = at[p];
    let child = parent.children.get(key);
    if (!child) parent.children.set(key, child = node(name, kind, parent));
    at[i + 1] = child;
    child[self] += group.costs[i];
    for (let n = child; n; n = n.parent) n[total] += group.costs[i];
  });
}
function build() {
  const a = data.groups[$("a").value], b = data.groups[$("b").value];
  root = node(a.label, "p", null);
  pour(root, a, "a", "selfA");
  if (b) pour(root, b, "b", "selfB");
  compared = b ? { shown: a, other: b } : null;
  zoomed = root;
}

// ---- drawing: only what is wide enough to be seen ----
function hash(s) { let h = 7; for (const c of s) h = (h * 31 + c.codePointAt(0)) | 0; return Math.abs(h % 100) / 100; }
function paint(el, n) {
  if (!compared) {
    el.style.setProperty("--h", HUES[n.kind] + (n.kind === "k" ? 22 : 14) * (hash(n.name) - .5));
    el.style.setProperty("--v", (6 * (hash(n.name + "v") - .5)).toFixed(1) + "%");
    return;
  }
  const d = n.a - n.b, noise = 2 * Math.sqrt(n.a * compared.shown.sample + n.b * compared.other.sample);
  const strength = Math.abs(d) > noise ? Math.min(1, .15 + Math.abs(d) / Math.max(n.a, n.b)) : 0;
  el.classList.add("d");
  el.style.setProperty("--to", d > 0 ? "#e0523a" : "#3a7de0");
  el.style.setProperty("--t", (100 * strength).toFixed(0) + "%");
}
function hit(n) { return needle && n.name.toLowerCase().includes(needle); }
function box(n, left, width, above) {
  const el = document.createElement("div");
  el.className = "f" + (above ? " above" : "");
  el.style.left = 100 * left + "%";
  el.style.width = 100 * width + "%";
  el.textContent = width > .012 ? n.name : "";
  el.tabIndex = width > .02 ? 0 : -1;
  paint(el, n);
  if (hit(n)) el.classList.add("hit");
  el.node = n;
  return el;
}
function draw() {
  const boxes = [], list = document.createDocumentFragment();
  let deepest = 0;
  const put = (n, left, width, above) => {
    boxes.push([box(n, left, width, above), n.depth]);
    deepest = Math.max(deepest, n.depth);
  };
  for (let n = zoomed.parent; n; n = n.parent) put(n, 0, 1, true);
  (function down(n, left) {
    const width = n.a / zoomed.a;
    if (!(width >= .0008)) return;
    put(n, left, width, false);
    for (const child of [...n.children.values()].sort((x, y) => x.kind + x.name < y.kind + y.name ? -1 : 1)) {
      down(child, left);
      left += child.a / zoomed.a;
    }
  })(zoomed, 0);
  for (const [el, depth] of boxes) {
    el.style.top = (deepest - depth) * ROW + "px";
    list.append(el);
  }
  $("graph").style.height = (deepest + 1) * ROW + "px";
  $("graph").replaceChildren(list);
}

// ---- words ----
function tell(n) {
  const unit = data.groups[$("a").value].unit;
  if (!n) {
    let found = 0;
    (function sum(m) { if (hit(m)) found += m.a; else m.children.forEach(sum); })(root);
    $("info").textContent = needle ? `"${needle}": ${time(found)} for each ${unit}, ${share(found, root.a)} of all` :
      `${root.name}: ${time(root.a)} of CPU for each ${unit}. Point at a frame for its cost; click to zoom in.`;
    return;
  }
  let text = `${n.name} (${n.parent ? KINDS[n.kind] : "all"}): ${time(n.a)} for each ${unit}, `
    + `${share(n.a, root.a)} of all; itself ${time(n.selfA)}`;
  if (compared) text += `. In ${compared.other.label}: ${time(n.b)}, itself ${time(n.selfB)}; `
    + `that is ${signed(n.a - n.b)}`;
  $("info").textContent = text;
}
function cell(row, text, number) {
  const td = document.createElement("td");
  td.textContent = text;
  if (number) td.className = "n";
  row.append(td);
}
function functions() {
  const all = new Map();
  (function walk(n, seen) {
    const fresh = n.kind === "k" && n.parent && !seen.has(n.name);
    if (n.kind === "k" && n.parent) {
      const f = all.get(n.name) || all.set(n.name, { name: n.name, a: 0, b: 0, selfA: 0, selfB: 0 }).get(n.name);
      f.selfA += n.selfA; f.selfB += n.selfB;
      if (fresh) { f.a += n.a; f.b += n.b; seen.add(n.name); }
    }
    n.children.forEach(child => walk(child, seen));
    if (fresh) seen.delete(n.name);
  })(root, new Set());
  const order = compared ? f => Math.abs(f.selfA - f.selfB) : f => f.selfA;
  const list = [...all.values()].sort((x, y) => order(y) - order(x)).slice(0, 20);
  const heads = ["function", "own time", "with what it calls", "share"]
    .concat(compared ? ["own, difference", "with calls, difference"] : []);
  const head = document.createElement("tr");
  heads.forEach((h, i) => {
    const th = document.createElement("th");
    th.textContent = h;
    if (i) th.className = "n";
    head.append(th);
  });
  $("functions").replaceChildren(head, ...list.map(f => {
    const row = document.createElement("tr");
    cell(row, f.name);
    cell(row, time(f.selfA), true);
    cell(row, time(f.a), true);
    cell(row, share(f.selfA, root.a), true);
    if (compared) { cell(row, signed(f.selfA - f.selfB), true); cell(row, signed(f.a - f.b), true); }
    return row;
  }));
}
function keys() {
  const words = compared ? [["more", "costs more than in " + compared.other.label], ["less", "costs less"]] :
    [["kernel", "kernel"], ["user", "user"], ["process", "process"]];
  $("keys").replaceChildren(...words.map(([c, t]) => {
    const s = document.createElement("span");
    s.className = "key " + c;
    s.textContent = t;
    return s;
  }));
  const g = data.groups[$("a").value];
  $("keys").append(` \u2003${g.note}`);
  $("sentence").textContent = compared && String(g.base) === $("b").value ? g.sentence : "";
}
function show() { build(); draw(); tell(); functions(); keys(); }
function choose() {
  history.replaceState(null, "", "#" + $("a").value + ($("b").value === "" ? "" : "," + $("b").value));
  $("swap").disabled = $("b").value === "";
  show();
}

// ---- hands ----
data.groups.forEach((g, i) => { for (const id of ["a", "b"]) $(id).add(new Option(g.title, i)); });
$("b").add(new Option("nothing", ""), 0);
const [first, second] = location.hash ? location.hash.slice(1).split(",") : [data.first, data.second];
$("a").value = data.groups[first] ? first : "0";
$("b").value = data.groups[second] ? second : "";
$("a").onchange = $("b").onchange = $("rest").onchange = choose;
$("swap").onclick = () => { const a = $("a").value; $("a").value = $("b").value; $("b").value = a; choose(); };
$("find").oninput = () => { needle = $("find").value.trim().toLowerCase(); draw(); tell(); };
$("reset").onclick = () => { zoomed = root; draw(); tell(); };
const of = event => event.target.node;
$("graph").onclick = event => { const n = of(event); if (n) { zoomed = n; draw(); tell(n); } };
$("graph").onkeydown = event => { if (event.key === "Enter") $("graph").onclick(event); };
$("graph").onmouseover = $("graph").onfocusin = event => tell(of(event));
$("graph").onmouseleave = () => tell();
document.onkeydown = event => { if (event.key === "Escape") $("reset").onclick(); };
addEventListener("hashchange", () => location.reload());
choose();
]=]

return M
