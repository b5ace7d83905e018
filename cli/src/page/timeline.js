// The timeline: a lane a worker, each attempt where and when it ran, and what was waited for. What was reused stands
// apart, as wide as it would have taken.
const LANE = 30, HEAD = 26;
const time = { from: 0, to: 1, width: 800, left: 76 };
function bars() {
  const all = [];
  for (const step of steps) {
    if (step.worker < 0 || !step.start) continue;
    const tries = step.attempts.length ? step.attempts : [[step.start, step.elapsed, -1]];
    tries.forEach(([start, elapsed, failure], index) => {
      const running = step.outcome === "running" && index === tries.length - 1;
      all.push({ step, lane: step.worker, start, end: running ? data.noted - data.started : start + elapsed, broken: failure >= 0, again: index + 1 });
    });
    const first = tries[0][0];
    if (step.ready && first - step.ready > 0) all.push({ step, lane: step.worker, start: step.ready, end: first, wait: true });
  }
  for (const step of steps) if (step.outcome === "joined" && step.worker >= 0 && step.ready) all.push({ step, lane: step.worker, start: step.ready, end: step.end || step.ready, joined: true });
  return all;
}
const attempts = bars();
// The axis goes as far as what is drawn on it, and no further than the run.
const whole = attempts.reduce((end, bar) => Math.max(end, bar.end), Math.max(1, data.ended ? data.summary.elapsed_ms : data.noted - data.started)) * 1.02;

function ticks(from, to) {
  const wanted = (to - from) / 7, units = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 15e3, 3e4, 6e4, 12e4, 3e5, 6e5, 9e5, 18e5, 36e5, 72e5, 144e5, 288e5, 864e5];
  const step = units.find(unit => unit >= wanted) || Math.ceil(wanted / 864e5) * 864e5, all = [];
  for (let at = Math.ceil(from / step) * step; at <= to; at += step) all.push([at, moments(at, step)]);
  return all;
}
// As exact as two of them next to each other differ, and no more.
function moments(at, step) {
  if (at === 0) return "0";
  if (at < 1000) return `${at} ms`;
  const minutes = Math.floor(at / 6e4) * 6e4, digits = step >= 1000 ? 0 : step >= 100 ? 1 : step >= 10 ? 2 : 3;
  if (step >= 6e4 || at === minutes) return duration(at);
  return `${minutes ? duration(minutes) + " " : ""}${((at - minutes) / 1000).toFixed(digits)} s`;
}

function drawTime() {
  const lanes = at("lanes");
  lanes.replaceChildren();
  const used = [...new Set(attempts.map(bar => bar.lane))].sort((a, b) => a - b);
  if (!used.length) { lanes.append(html("p", { class: "nothing", text: steps.length ? "Nothing had to run." : "There were no steps." })); return; }
  const row = new Map(used.map((lane, index) => [lane, index]));
  time.width = Math.max(300, lanes.clientWidth);
  time.left = time.width < 500 ? 34 : 84;
  const height = HEAD + used.length * LANE + 8, x = ms => time.left + (ms - time.from) / (time.to - time.from) * (time.width - time.left - 14);
  const drawing = svg("svg", { viewBox: `0 0 ${time.width} ${height}`, height, "aria-hidden": "true" });
  for (const [tick, words] of ticks(time.from, time.to)) drawing.append(
    svg("line", { class: "rule", x1: x(tick), x2: x(tick), y1: HEAD - 6, y2: height }),
    svg("text", { class: "tick", x: x(tick), y: 15, "text-anchor": "middle", text: words }));
  used.forEach((lane, index) => drawing.append(svg("text", { class: "lane", x: 12, y: HEAD + index * LANE + 19, text: time.width < 500 ? String(lane + 1) : `worker ${lane + 1}` })));
  const clip = svg("g");
  let drawn = 0;
  // Those too narrow to see are drawn where nothing is yet.
  const last = new Map();
  for (const bar of attempts.slice().sort((a, b) => (a.wait ? 0 : 1) - (b.wait ? 0 : 1) || a.start - b.start)) {
    if (bar.end < time.from || bar.start > time.to) continue;
    const from = Math.max(time.left, x(bar.start)), to = Math.min(time.width - 8, Math.max(x(bar.end), from + 1.5)), y = HEAD + row.get(bar.lane) * LANE;
    if (bar.wait) {
      if (to - from > 3) clip.append(svg("line", { class: "wait", x1: from, x2: to, y1: y + 13, y2: y + 13 }, [svg("title", { text: `${bar.step.name} waited ${duration(bar.end - bar.start)} for a worker` })]));
      continue;
    }
    if (to - from < 2 && last.get(bar.lane) > from && bar.step !== state.selected) continue;
    last.set(bar.lane, to);
    if (++drawn > 4000) break;
    const as = bar.broken ? "failed" : bar.step.outcome;
    const wide = to - from, room = Math.floor((wide - 8) / 6.9);
    const again = bar.step.attempts.length > 1 ? `, attempt ${bar.again}` : "";
    clip.append(svg("g", { class: `attempt ${as}${bar.broken ? " broken" : ""}${bar.step === state.selected ? " selected" : ""}${matches(bar.step) ? "" : " dim"}`, "data-step": bar.step.id }, [
      svg("title", { text: `${bar.step.name}: ${bar.joined ? "waited for another process" : as}, ${duration(bar.end - bar.start)}${again}` }),
      svg("rect", { x: from, y: y + 3, width: wide, height: LANE - 9, rx: Math.min(4, wide / 3) }),
      room > 2 ? svg("text", { x: from + 5, y: y + 17.5, text: short((bar.broken ? "× " : "") + bar.step.name, room) }) : null,
    ]));
  }
  drawing.append(clip);
  lanes.append(drawing);
}

function drawSaved() {
  const reused = steps.filter(step => ["reused", "unchanged", "joined"].includes(step.outcome)), area = at("saved");
  area.replaceChildren();
  if (!reused.length) return;
  const total = reused.reduce((sum, step) => sum + step.cost, 0);
  const words = `${plural(reused.length, "step")} did not have to run` + (total ? `; making ${reused.length === 1 ? "its result" : "their results"} took ${duration(total)} once` : "");
  const blocks = html("div", { class: "blocks" });
  const sorted = reused.slice().sort((a, b) => b.cost - a.cost).slice(0, 40);
  for (const step of sorted) {
    const block = html("button", { type: "button", class: step.outcome, text: short(step.name, 40), title: `${step.name}: ${step.outcome}, took ${duration(step.cost)} once`, onclick: () => show(step) });
    block.style.flexGrow = total ? Math.max(step.cost, total / 400) : 1;
    blocks.append(block);
  }
  const rest = reused.length - sorted.length;
  area.append(html("div", { class: "saved" }, [html("h3", { text: words }), blocks, rest ? html("p", { class: "hint", text: `and ${plural(rest, "step")} more that took less` }) : null]));
}

// Shows this much of the time, from there on, as far as there is any.
function look(from, width) {
  width = Math.min(whole, Math.max(2, width));
  time.from = Math.max(0, Math.min(from, whole - width));
  time.to = time.from + width;
  drawTime();
}
function span(factor) {
  const middle = state.selected && state.selected.start ? Math.min(Math.max(state.selected.start + state.selected.elapsed / 2, time.from), time.to) : (time.from + time.to) / 2;
  const width = (time.to - time.from) * factor;
  look(middle - width / 2, width);
}
function startTimeline() {
  const lanes = at("lanes");
  time.to = whole;
  lanes.addEventListener("click", event => { const bar = event.target.closest("[data-step]"); if (bar) show(steps[bar.dataset.step]); });
  lanes.addEventListener("wheel", event => {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    const frame = lanes.getBoundingClientRect(), share = (event.clientX - frame.left - time.left) / (time.width - time.left);
    const here = time.from + Math.min(1, Math.max(0, share)) * (time.to - time.from), width = (time.to - time.from) * Math.exp(event.deltaY * 0.0025);
    look(here - share * Math.min(whole, Math.max(2, width)), width);
  }, { passive: false });
  lanes.addEventListener("keydown", event => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const width = time.to - time.from;
    const keys = {
      "+": () => span(0.6), "=": () => span(0.6), "-": () => span(1 / 0.6), "0": () => look(0, whole),
      ArrowLeft: () => look(time.from - width / 5, width), ArrowRight: () => look(time.from + width / 5, width),
      Home: () => look(0, width), End: () => look(whole, width),
    };
    if (!keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  });
  let held = null;
  lanes.addEventListener("pointerdown", event => { if (event.pointerType === "mouse") held = { x: event.clientX, from: time.from, width: time.to - time.from }; });
  window.addEventListener("pointermove", event => {
    if (!held || held.width >= whole) return;
    look(held.from + (held.x - event.clientX) / (time.width - time.left) * held.width, held.width);
  });
  window.addEventListener("pointerup", () => held = null);
  at("time-in").addEventListener("click", () => span(0.6));
  at("time-out").addEventListener("click", () => span(1 / 0.6));
  at("time-fit").addEventListener("click", () => look(0, whole));
  listeners.push(drawTime);
  let width = 0;
  new ResizeObserver(() => { if (Math.abs(lanes.clientWidth - width) > 2) { width = lanes.clientWidth; drawTime(); } }).observe(lanes);
  drawTime();
  drawSaved();
}
