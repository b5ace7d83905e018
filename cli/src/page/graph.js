// The graph: one node an invocation, many elements folded into one until they are asked for. Only what is in sight is
// in the document, so that thousands of nodes cost no more than a screen of them.
const FAR = 0.42, NEAREST = 3, ROWS = 24, ROW = 24, CELL = 17;
const graph = { nodes: [], edges: [], width: 0, height: 0, shown: new Map(), view: { x: 0, y: 0, k: 1 }, unfolded: new Set(), parts: {} };

function box(group) {
  const many = group.steps.length, open = many > 1 && graph.unfolded.has(group.id);
  const title = many > 1 ? `${group.name} ×${number(many)}` : group.name;
  let w = Math.min(300, Math.max(132, short(title, 32).length * 7.9 + 46, line(group).length * 6.4 + 46)), h = 54;
  if (open && many <= ROWS) {
    w = Math.max(w, Math.min(320, Math.max(...group.steps.map(step => step.label.length)) * 7.3 + 48));
    h = 42 + many * ROW;
  } else if (open) {
    const columns = Math.min(60, Math.max(8, Math.ceil(Math.sqrt(many * 1.6))));
    w = Math.max(w, columns * CELL + 22);
    group.columns = columns;
    h = 42 + Math.ceil(many / columns) * CELL;
  }
  return { group, open, title, w, h, x: 0, y: 0, above: [...group.above], look: lookOf(group.steps) };
}

function arrange() {
  graph.down = at("canvas").clientWidth < 620;
  graph.nodes = groups.map(box);
  const placed = layout(graph.nodes, graph.down);
  Object.assign(graph, { edges: placed.edges, width: placed.width, height: placed.height });
  graph.shown.forEach(element => element.remove());
  graph.shown.clear();
  graph.drawnEdges = null;
  draw();
}

function line(group) {
  // What people look for first stands first: the rest may not fit.
  if (group.steps.length > 1) return counted(group.steps).sort(([a], [b]) => LOOKS.indexOf(a) - LOOKS.indexOf(b)).map(([outcome, count]) => `${number(count)} ${outcome.replace("-", " ")}`).join(", ");
  const [step] = group.steps;
  const facts = [step.outcome.replace("-", " ")];
  if (step.elapsed) facts.push(duration(step.elapsed));
  if (step.bytes !== null) facts.push(step.gone ? "bytes gone" : size(step.bytes));
  return facts.join(" · ");
}

function drawNode(node) {
  const { group, w, h } = node, left = node.x - w / 2, top = node.y - h / 2, many = group.steps.length;
  const parts = [];
  if (many > 1 && !node.open) parts.push(svg("rect", { class: "back", x: 7, y: 7, width: w - 2, height: h - 2, rx: 9 }), svg("rect", { class: "back", x: 3.5, y: 3.5, width: w, height: h, rx: 9 }));
  parts.push(svg("rect", { class: "box", width: w, height: h, rx: 9 }));
  parts.push(svg("g", { transform: "translate(14 11)" }, [svg("path", { class: `glyph${SOLID.has(node.look) ? " solid" : ""}`, d: SHAPES[node.look] })]));
  parts.push(svg("text", { class: "name", x: 34, y: 22, text: short(node.title, 32) }));
  if (node.open) {
    group.steps.forEach((step, index) => parts.push(many <= ROWS ? row(node, step, index) : cell(node, step, index)));
  } else if (many > 1) {
    let x = 14;
    for (const [outcome, count] of counted(group.steps)) {
      const width = Math.max(2, (w - 28) * count / many);
      parts.push(svg("rect", { class: `part ${outcome}`, x, y: 42, width: Math.max(1, Math.min(width, w - 14 - x)), height: 4, rx: 2 }));
      x += width + 1;
    }
    parts.push(svg("text", { class: "line", x: 34, y: 37, text: short(line(group), Math.floor((w - 40) / 6.4)) }));
  } else {
    parts.push(svg("text", { class: "line", x: 34, y: 40, text: short(line(group), Math.floor((w - 40) / 6.4)) }));
  }
  const element = svg("g", { class: `node ${node.look}`, transform: `translate(${left} ${top})`, "data-group": group.id },
    [svg("title", { text: `${node.title}: ${line(group)}` }), ...parts]);
  return element;
}
function row(node, step, index) {
  const y = 40 + index * ROW;
  return svg("g", { class: `row ${step.outcome}`, transform: `translate(10 ${y})`, "data-step": step.id }, [
    svg("rect", { class: "cell", width: node.w - 20, height: ROW - 4, rx: 5 }),
    svg("g", { transform: "translate(6 4)", class: "node-glyph" }, [svg("path", { class: `glyph${SOLID.has(step.outcome) ? " solid" : ""}`, d: SHAPES[step.outcome] })]),
    svg("text", { class: "line", x: 26, y: 14, text: short(step.label.replace(/^\[|\]$/g, ""), 38) }),
  ]);
}
const cell = (node, step, index) => svg("g", { class: `one ${step.outcome}`, "data-step": step.id,
  transform: `translate(${12 + index % node.group.columns * CELL} ${40 + Math.floor(index / node.group.columns) * CELL})` }, [
  svg("rect", { class: "cell", rx: 3, width: CELL - 3, height: CELL - 3 }),
  svg("path", { class: `glyph${SOLID.has(step.outcome) ? " solid" : ""}`, d: SHAPES[step.outcome], transform: "translate(2.2 2.2) scale(0.8)" }),
  svg("title", { text: `${step.name}: ${step.outcome}` }),
]);

function sight() {
  const { x, y, k } = graph.view, canvas = at("canvas");
  return [-x / k - 60, (canvas.clientWidth - x) / k + 60, -y / k - 60, (canvas.clientHeight - y) / k + 60];
}
const meets = ([a, b, c, d], [e, f, g, h]) => a <= f && b >= e && c <= h && d >= g;

let due = false;
function draw() {
  if (due) return;
  due = true;
  requestAnimationFrame(() => { due = false; drawNow(); });
}
function drawNow() {
  const { view, parts } = graph, area = sight();
  parts.world.setAttribute("transform", `translate(${view.x} ${view.y}) scale(${view.k})`);
  parts.svg.classList.toggle("far", view.k < FAR);
  const seen = new Set();
  for (const node of graph.nodes) {
    if (!meets([node.x - node.w / 2, node.x + node.w / 2, node.y - node.h / 2, node.y + node.h / 2], area)) continue;
    seen.add(node.group.id);
    if (!graph.shown.has(node.group.id)) {
      const element = drawNode(node);
      graph.shown.set(node.group.id, element);
      parts.nodes.append(element);
    }
  }
  for (const [id, element] of graph.shown) if (!seen.has(id)) { element.remove(); graph.shown.delete(id); }
  // The edges in sight are one path: as many elements would cost more than they show.
  const around = graph.drawnEdges;
  if (!around || area[0] < around[0] || area[1] > around[1] || area[2] < around[2] || area[3] > around[3]) {
    const wide = (area[1] - area[0]) / 2, high = (area[3] - area[2]) / 2;
    const larger = graph.drawnEdges = [area[0] - wide, area[1] + wide, area[2] - high, area[3] + high];
    parts.edges.setAttribute("d", graph.edges.filter(edge => meets(edge.box, larger)).map(edge => edge.path).join(""));
  }
  mark();
  overview();
}

// What is selected, what lies above and below it, and what was found.
function mark() {
  const { parts } = graph, selected = state.selected, up = new Set(), down = new Set();
  if (selected) {
    const reach = (set, from, next) => { const open = [from]; while (open.length) for (const other of next(open.pop())) if (!set.has(other)) { set.add(other); open.push(other); } };
    reach(up, selected.group.id, id => graph.nodes[id].above);
    graph.under ||= (() => { const under = groups.map(() => []); graph.nodes.forEach((node, id) => node.above.forEach(above => under[above].push(id))); return under; })();
    reach(down, selected.group.id, id => graph.under[id]);
  }
  const own = selected && selected.group.id;
  const among = set => graph.edges.filter(edge => (set.has(edge.from) || edge.from === own) && (set.has(edge.to) || edge.to === own)).map(edge => edge.path).join("");
  parts.up.setAttribute("d", selected ? among(up) : "");
  parts.down.setAttribute("d", selected ? among(down) : "");
  parts.svg.classList.toggle("lit", up.size + down.size > 0);
  for (const [id, element] of graph.shown) {
    const group = groups[id];
    element.classList.toggle("selected", id === own && !(graph.unfolded.has(id) && group.steps.length > 1));
    const found = !state.matches || group.steps.some(step => state.matches.has(step.id));
    element.classList.toggle("dim", !found);
    element.classList.toggle("hit", !!state.query && found);
    for (const inner of element.querySelectorAll("[data-step]")) {
      const step = steps[inner.dataset.step];
      inner.querySelector(".cell").classList.toggle("selected", step === selected);
      inner.classList.toggle("dim", !matches(step));
    }
  }
}

function zoom(factor, x, y) {
  const { view } = graph, canvas = at("canvas");
  x ??= canvas.clientWidth / 2; y ??= canvas.clientHeight / 2;
  const k = Math.min(NEAREST, Math.max(0.02, view.k * factor));
  view.x = x - (x - view.x) * k / view.k; view.y = y - (y - view.y) * k / view.k; view.k = k;
  draw();
}
// As high as the graph needs at the width that there is, within what a screen shows at once.
function resize() {
  const canvas = at("canvas"), wide = Math.min(1.15, (canvas.clientWidth - 56) / graph.width);
  const most = Math.max(300, Math.min(680, window.innerHeight * 0.66));
  canvas.style.height = `${Math.round(wide < 0.5 ? most : Math.min(most, Math.max(170, graph.height * wide + 64)))}px`;
}
function fit() {
  resize();
  const canvas = at("canvas"), { view } = graph, margin = 28;
  view.k = Math.min(1.15, (canvas.clientWidth - 2 * margin) / graph.width, (canvas.clientHeight - 2 * margin) / graph.height);
  view.x = (canvas.clientWidth - graph.width * view.k) / 2; view.y = (canvas.clientHeight - graph.height * view.k) / 2;
  draw();
}
// The first look: all of it where that can be read, else what matters most, in a size that can be read.
function begin() {
  fit();
  if (graph.view.k >= 0.5) return;
  const first = LOOKS.map(look => graph.nodes.find(node => node.look === look)).find(node => node);
  graph.view.k = 0.75;
  center(first, true);
  // No more of nothing than a margin.
  const canvas = at("canvas"), { view } = graph, margin = 28;
  const within = (at, whole, room) => whole + 2 * margin <= room ? (room - whole) / 2 : Math.min(margin, Math.max(room - whole - margin, at));
  view.x = within(view.x, graph.width * view.k, canvas.clientWidth);
  view.y = within(view.y, graph.height * view.k, canvas.clientHeight);
}
function center(node, always) {
  const canvas = at("canvas"), { view } = graph, x = node.x * view.k + view.x, y = node.y * view.k + view.y;
  const inside = x > 90 && x < canvas.clientWidth - 90 && y > 40 && y < canvas.clientHeight - 40;
  if (always || !inside || view.k < FAR) {
    view.k = Math.max(view.k, FAR + 0.2);
    view.x = canvas.clientWidth / 2 - node.x * view.k; view.y = canvas.clientHeight / 2 - node.y * view.k;
  }
  draw();
}
function unfold(group, open) {
  if (group.steps.length < 2) return;
  const before = graph.nodes[group.id], where = [before.x * graph.view.k + graph.view.x, before.y * graph.view.k + graph.view.y];
  if (open ?? !graph.unfolded.has(group.id)) graph.unfolded.add(group.id); else graph.unfolded.delete(group.id);
  arrange();
  resize();
  // What was looked at stays where it was.
  const after = graph.nodes[group.id];
  graph.view.x = where[0] - after.x * graph.view.k; graph.view.y = where[1] - after.y * graph.view.k;
  center(after);
  foldWords();
}
function foldWords() {
  const many = groups.filter(group => group.steps.length > 1);
  at("fold").hidden = many.length === 0;
  at("fold").textContent = many.length && many.every(group => graph.unfolded.has(group.id)) ? "Fold all" : "Unfold all";
}

// The small map in the corner, where not all is in sight.
function overview() {
  const map = graph.parts.map, canvas = at("canvas"), { view } = graph;
  const all = graph.width * view.k <= canvas.clientWidth + 4 && graph.height * view.k <= canvas.clientHeight + 4;
  map.hidden = all;
  if (all) return;
  const scale = Math.min(170 / graph.width, 110 / graph.height), density = window.devicePixelRatio || 1;
  const w = Math.max(24, graph.width * scale), h = Math.max(18, graph.height * scale);
  map.width = w * density; map.height = h * density;
  map.style.width = `${w}px`; map.style.height = `${h}px`;
  const to = map.getContext("2d"), style = getComputedStyle(document.documentElement);
  to.scale(density, density);
  for (const node of graph.nodes) {
    to.fillStyle = style.getPropertyValue(`--${node.look}`);
    to.globalAlpha = node.look === "reused" ? 0.45 : 0.9;
    to.fillRect((node.x - node.w / 2) * scale, (node.y - node.h / 2) * scale, Math.max(1.5, node.w * scale), Math.max(1, node.h * scale));
  }
  to.globalAlpha = 1;
  to.strokeStyle = style.getPropertyValue("--accent");
  to.strokeRect(-view.x / view.k * scale + 0.5, -view.y / view.k * scale + 0.5, canvas.clientWidth / view.k * scale - 1, canvas.clientHeight / view.k * scale - 1);
  graph.scale = scale;
}

function toNeighbour(key) {
  const from = state.selected ? graph.nodes[state.selected.group.id] : null;
  if (!from) { select(groups[0].steps[0]); return; }
  const wanted = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] }[key];
  if (from.open && (key === "ArrowDown" || key === "ArrowUp")) {
    const next = from.group.steps[from.group.steps.indexOf(state.selected) + wanted[1]];
    if (next) { select(next); return; }
  }
  let best = null, least = Infinity;
  for (const node of graph.nodes) {
    const along = (node.x - from.x) * wanted[0] + (node.y - from.y) * wanted[1];
    const aside = Math.abs((node.x - from.x) * wanted[1]) + Math.abs((node.y - from.y) * wanted[0]);
    const joined = from.above.includes(node.group.id) || node.above.includes(from.group.id);
    if (node === from || along < 20) continue;
    const far = along + aside * 2.2 - (joined ? 400 : 0);
    if (far < least) { least = far; best = node; }
  }
  if (best) select(best.group.steps[0]);
}

function startGraph() {
  const canvas = at("canvas"), parts = graph.parts;
  parts.edges = svg("path", { class: "edge all" });
  parts.down = svg("path", { class: "edge down" });
  parts.up = svg("path", { class: "edge up" });
  parts.nodes = svg("g");
  parts.world = svg("g", {}, [parts.edges, parts.down, parts.up, parts.nodes]);
  parts.svg = svg("svg", { class: "world", "aria-hidden": "true" }, [parts.world]);
  parts.map = html("canvas", { "aria-hidden": "true", hidden: true });
  canvas.append(parts.svg, parts.map);
  if (data.invocations.length === 0) canvas.parentElement.before(html("p", { class: "note", text: "Which step consumed which is not on record for this run: its steps stand side by side." }));

  let held = null;
  const fingers = new Map();
  canvas.addEventListener("pointerdown", event => {
    if (event.target === parts.map) return;
    fingers.set(event.pointerId, event);
    held = { x: event.clientX - graph.view.x, y: event.clientY - graph.view.y, moved: false, from: event };
  });
  canvas.addEventListener("pointermove", event => {
    if (!held || !fingers.has(event.pointerId)) return;
    const before = [...fingers.values()];
    fingers.set(event.pointerId, event);
    const now = [...fingers.values()];
    if (now.length === 2) {
      const apart = ([a, b]) => Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY), frame = canvas.getBoundingClientRect();
      zoom(apart(now) / Math.max(1, apart(before)), (now[0].clientX + now[1].clientX) / 2 - frame.left, (now[0].clientY + now[1].clientY) / 2 - frame.top);
      held.moved = true;
      return;
    }
    if (!held.moved && Math.hypot(event.clientX - held.from.clientX, event.clientY - held.from.clientY) < 4) return;
    if (!held.moved) { held.moved = true; canvas.setPointerCapture(event.pointerId); canvas.classList.add("moving"); }
    graph.view.x = event.clientX - held.x; graph.view.y = event.clientY - held.y;
    draw();
  });
  const release = event => { fingers.delete(event.pointerId); canvas.classList.remove("moving"); };
  canvas.addEventListener("pointerup", release);
  canvas.addEventListener("pointercancel", release);
  canvas.addEventListener("click", event => {
    const moved = held && held.moved;
    held = null;
    if (moved) return;
    const inner = event.target.closest("[data-step]"), outer = event.target.closest("[data-group]");
    if (inner) select(steps[inner.dataset.step]);
    else if (outer) {
      const group = groups[outer.dataset.group], again = state.selected && state.selected.group === group;
      if (!again) select(group.steps.find(step => step.outcome === lookOf(group.steps) && matches(step)) || group.steps[0]);
      if (group.steps.length > 1 && (again || !graph.unfolded.has(group.id))) unfold(group);
    } else if (event.target !== parts.map) select(null);
  });
  canvas.addEventListener("wheel", event => {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    const frame = canvas.getBoundingClientRect();
    zoom(Math.exp(-event.deltaY * 0.0025), event.clientX - frame.left, event.clientY - frame.top);
  }, { passive: false });
  parts.map.addEventListener("pointerdown", event => {
    const frame = parts.map.getBoundingClientRect(), { view } = graph;
    view.x = canvas.clientWidth / 2 - (event.clientX - frame.left) / graph.scale * view.k;
    view.y = canvas.clientHeight / 2 - (event.clientY - frame.top) / graph.scale * view.k;
    draw();
  });
  canvas.addEventListener("keydown", event => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key.startsWith("Arrow")) toNeighbour(event.key);
    else if (event.key === "+" || event.key === "=") zoom(1.25);
    else if (event.key === "-") zoom(0.8);
    else if (event.key === "0") fit();
    else if (event.key === "Enter" && state.selected) unfold(state.selected.group);
    else if (event.key === "Escape") select(null);
    else return;
    event.preventDefault();
  });
  at("zoom-in").addEventListener("click", () => zoom(1.3));
  at("zoom-out").addEventListener("click", () => zoom(1 / 1.3));
  at("zoom-fit").addEventListener("click", fit);
  at("fold").addEventListener("click", () => {
    const many = groups.filter(group => group.steps.length > 1), all = many.every(group => graph.unfolded.has(group.id));
    many.forEach(group => all ? graph.unfolded.delete(group.id) : graph.unfolded.add(group.id));
    arrange(); fit(); foldWords();
  });
  listeners.push(what => {
    if (what !== "found" && state.selected && graph.nodes.length) center(graph.nodes[state.selected.group.id]);
    draw();
  });
  let width = canvas.clientWidth;
  new ResizeObserver(() => {
    if (graph.down !== canvas.clientWidth < 620) arrange();
    if (Math.abs(canvas.clientWidth - width) > 2) { width = canvas.clientWidth; begin(); } else draw();
  }).observe(canvas);
  arrange(); begin(); foldWords();
}
