// Where nodes stand: in layers, each after what it consumes, with few crossings and short ways. Pure.
//
// Layers by longest path; edges over several layers pass through points in between; the order within a layer by the
// mean of the neighbours, swept to and fro; places by least squares under the order. A layer with very many nodes is
// set in columns instead, so that the whole stays a page and not a strip.
const GAP = { along: 52, across: 18, columns: 14 };
const MOST_IN_LAYER = 28;
const MOST_POINTS = 6000;

// nodes: {w, h, above: [index]}; sets x and y (centres); gives edges as lists of points and the whole size.
function layout(nodes, down) {
  const count = nodes.length, layer = new Int32Array(count), below = nodes.map(() => []);
  nodes.forEach((node, id) => node.above.forEach(above => { layer[id] = Math.max(layer[id], layer[above] + 1); below[above].push(id); }));
  // What begins stands right before its first reader.
  nodes.forEach((node, id) => { if (!node.above.length && below[id].length) layer[id] = Math.min(...below[id].map(reader => layer[reader])) - 1; });
  const layers = [];
  const items = nodes.map((node, id) => ({ id, layer: layer[id], along: down ? node.h : node.w, across: down ? node.w : node.h, up: [], down: [] }));
  items.forEach(item => (layers[item.layer] ||= []).push(item));
  const edges = [];
  let points = 0;
  nodes.forEach((node, id) => node.above.forEach(above => points += layer[id] - layer[above] - 1));
  nodes.forEach((node, id) => node.above.forEach(above => {
    const way = [items[above]];
    if (points <= MOST_POINTS) for (let at = layer[above] + 1; at < layer[id]; at++) {
      const point = { id: -1, layer: at, along: 0, across: 4, up: [], down: [] };
      layers[at].push(point);
      way.push(point);
    }
    way.push(items[id]);
    for (let at = 1; at < way.length; at++) { way[at - 1].down.push(way[at]); way[at].up.push(way[at - 1]); }
    edges.push(way);
  }));
  for (let at = 0; at < layers.length; at++) layers[at] ||= [];

  const number = list => list.forEach((item, rank) => item.rank = rank);
  layers.forEach(number);
  const sweep = (list, side) => {
    for (const item of list) item.key = item[side].length ? item[side].reduce((sum, other) => sum + other.rank, 0) / item[side].length : item.rank;
    list.sort((a, b) => a.key - b.key || a.rank - b.rank);
    number(list);
  };
  const sweeps = edges.length > 20000 ? 2 : edges.length > 4000 ? 6 : 14;
  let best = null, fewest = Infinity;
  for (let round = 0; round < sweeps; round++) {
    if (round % 2 === 0) layers.slice(1).forEach(list => sweep(list, "up"));
    else for (let at = layers.length - 2; at >= 0; at--) sweep(layers[at], "down");
    const crossed = edges.length > 4000 ? -round : crossings(layers);
    if (crossed < fewest) { fewest = crossed; best = layers.map(list => list.slice()); }
    if (crossed === 0) break;
  }
  if (best) best.forEach((list, at) => { layers[at] = list; number(list); });

  // Across: packed first, then each as near to its neighbours as the order allows.
  const most = rowsOf(layers, items);
  const wrapped = list => list.filter(item => item.id >= 0).length > most;
  const pack = list => { let at = 0; for (const item of list) { item.at = at + item.across / 2; at += item.across + GAP.across; } return at - GAP.across; };
  for (const list of layers) {
    if (wrapped(list)) columns(list, most);
    else { const whole = pack(list); list.forEach(item => item.at -= whole / 2); }
  }
  for (let round = 0; round < 10; round++) {
    const order = round % 2 === 0 ? layers : layers.slice().reverse();
    for (const list of order) if (!wrapped(list)) settle(list, round % 2 === 0 ? "up" : "down", round >= 8);
  }
  // Along.
  let at = 0;
  for (const list of layers) {
    const wide = Math.max(0, ...list.map(item => (item.column || 0) * ((item.step || 0)) + item.along));
    for (const item of list) item.lengthwise = item.step ? at + item.column * item.step + item.along / 2 : at + wide / 2;
    for (const item of list) item.from = at, item.to = at + wide;
    at += wide + GAP.along;
  }
  let low = Infinity, high = -Infinity;
  for (const list of layers) for (const item of list) { low = Math.min(low, item.at - item.across / 2); high = Math.max(high, item.at + item.across / 2); }
  for (const list of layers) for (const item of list) {
    const across = item.at - low;
    [item.x, item.y] = down ? [across, item.lengthwise] : [item.lengthwise, across];
    if (item.id >= 0) { nodes[item.id].x = item.x; nodes[item.id].y = item.y; }
  }
  const length = Math.max(0, at - GAP.along), wide = Math.max(0, high - low);
  return { edges: edges.map(way => drawn(way, down)), width: down ? wide : length, height: down ? length : wide };
}

function crossings(layers) {
  let total = 0;
  for (let at = 1; at < layers.length; at++) {
    const ends = [];
    for (const item of layers[at - 1]) ends.push(...item.down.map(other => other.rank).sort((a, b) => a - b));
    const tree = new Int32Array(layers[at].length + 1);
    for (let seen = 0; seen < ends.length; seen++) {
      let before = 0;
      for (let i = ends[seen] + 1; i > 0; i -= i & -i) before += tree[i];
      total += seen - before;
      for (let i = ends[seen] + 1; i < tree.length; i += i & -i) tree[i]++;
    }
  }
  return total;
}

// How many stand in a column at most, so that the whole has about the shape of a page.
function rowsOf(layers, items) {
  if (!items.length) return MOST_IN_LAYER;
  const mean = side => items.reduce((sum, item) => sum + item[side], 0) / items.length + GAP.columns;
  const wide = mean("along"), high = mean("across"), counts = layers.map(list => list.filter(item => item.id >= 0).length);
  let best = MOST_IN_LAYER, least = Infinity;
  for (let rows = MOST_IN_LAYER; rows < Math.max(...counts) + 2; rows += Math.ceil(rows / 12)) {
    const length = counts.reduce((sum, count) => sum + Math.ceil(count / rows) * wide + GAP.along, 0);
    const off = Math.abs(Math.log(length / (Math.min(rows, Math.max(...counts)) * high) / 1.8));
    if (off < least) { least = off; best = rows; }
  }
  return best;
}

function columns(list, rows) {
  const real = list.filter(item => item.id >= 0);
  const wide = Math.max(...real.map(item => item.along)) + GAP.columns, high = Math.max(...real.map(item => item.across)) + GAP.columns;
  const used = Math.ceil(real.length / Math.ceil(real.length / rows));
  real.forEach((item, index) => { item.column = Math.floor(index / used); item.step = wide; item.at = (index % used - (used - 1) / 2) * high; });
  list.filter(item => item.id < 0).forEach((item, index) => item.at = (used / 2 + 1) * high + index * GAP.across);
}

// Least squares under an order: blocks that would overlap move as one.
function settle(list, side, both) {
  const blocks = [];
  let offset = 0, last = null;
  for (const item of list) {
    if (last) offset += (last.across + item.across) / 2 + GAP.across;
    const near = both ? item.up.concat(item.down) : item[side];
    const wanted = near.length ? near.reduce((sum, other) => sum + other.at, 0) / near.length : item.at;
    const weight = near.length ? (item.id < 0 ? 4 : 1) : 0.05;
    blocks.push({ sum: (wanted - offset) * weight, weight, items: [[item, offset]] });
    while (blocks.length > 1) {
      const [a, b] = blocks.slice(-2);
      if (a.sum / a.weight <= b.sum / b.weight) break;
      blocks.pop();
      a.sum += b.sum; a.weight += b.weight; a.items.push(...b.items);
    }
    last = item;
  }
  for (const block of blocks) for (const [item, offset] of block.items) item.at = block.sum / block.weight + offset;
}

// An edge from the end of one node to the beginning of another, as a path and the box that it lies in.
function drawn(way, down) {
  const ends = way.map((item, index) => ({
    in: index === 0 ? null : item.id < 0 ? item.from : item.lengthwise - item.along / 2,
    out: item.id < 0 ? item.to : item.lengthwise + item.along / 2, across: down ? item.x : item.y,
  }));
  const point = (along, across) => down ? `${across.toFixed(1)} ${along.toFixed(1)}` : `${along.toFixed(1)} ${across.toFixed(1)}`;
  let path = `M${point(ends[0].out, ends[0].across)}`;
  for (let at = 1; at < ends.length; at++) {
    const from = ends[at - 1], to = ends[at], middle = (from.out + to.in) / 2;
    path += `C${point(middle, from.across)} ${point(middle, to.across)} ${point(to.in, to.across)}`;
    if (at < ends.length - 1) path += `L${point(to.out, to.across)}`;
  }
  const along = [ends[0].out, ends[ends.length - 1].in], across = ends.map(end => end.across);
  const box = [Math.min(...along), Math.max(...along), Math.min(...across), Math.max(...across)];
  return { from: way[0].id, to: way[way.length - 1].id, path, box: down ? [box[2], box[3], box[0], box[1]] : box };
}
