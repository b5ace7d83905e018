// What the page is drawn from: the run as it was written into the page, and small words for people.
const data = JSON.parse(document.getElementById("data").textContent);
const OUTCOMES = ["reused", "unchanged", "ran", "joined", "failed", "skipped", "cancelled", "running", "waiting", "not-needed"];
const MEANING = {
  "reused": "its result was in the store", "unchanged": "its inputs came out the same", "ran": "it was executed",
  "joined": "another process made it meanwhile", "failed": "it ended with an error", "skipped": "something above it failed or is absent",
  "cancelled": "the run was stopped before it ended", "running": "it runs now", "waiting": "the run did not get to it yet",
  "not-needed": "nothing that was wanted needed it",
};
// Each outcome has a shape of its own, so that nothing is said by colour alone.
const SHAPES = {
  "reused": "M10 6a4 4 0 1 1-1.3-3M10 1.3V4H7.3", "unchanged": "M2.5 4.3h7M2.5 7.7h7", "ran": "M3.6 2.2l5.8 3.8-5.8 3.8z",
  "joined": "M4.4 3.2a2.8 2.8 0 1 0 0 5.6 2.8 2.8 0 1 0 0-5.6M7.6 3.2a2.8 2.8 0 1 0 0 5.6 2.8 2.8 0 1 0 0-5.6",
  "failed": "M3 3l6 6M9 3l-6 6", "skipped": "M2 3l3.6 3L2 9M6 3l3.6 3L6 9", "cancelled": "M3.2 3.2h5.6v5.6H3.2z",
  "running": "M6 3.4V6l1.8 1.2M6 1.4a4.6 4.6 0 1 0 0 9.2 4.6 4.6 0 1 0 0-9.2", "waiting": "M2.4 6h.01M6 6h.01M9.6 6h.01",
  "not-needed": "M6 2.8a3.2 3.2 0 1 0 0 6.4 3.2 3.2 0 1 0 0-6.4",
};
const SOLID = new Set(["ran", "cancelled"]);

// Control characters, and those that turn the direction of text, are shown as what they are.
const visible = text => text.replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f]/g,
  c => c === "\u007f" ? "\u2421" : String.fromCharCode(0x2400 + c.charCodeAt(0))).replace(/[\u0080-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, "\ufffd");
const oneLine = text => visible(text.replace(/[\n\t\r]/g, c => ({ "\n": "\u240a", "\t": "\u2409", "\r": "\u240d" })[c]));
// Colours of a terminal are left out of a log.
const ofLog = text => visible(text.replace(/\u001b\[[0-9;?]*[ -\/]*[@-~]/g, "").replace(/\r\n?/g, "\n"));

const texts = data.texts;
const text = index => index < 0 ? null : oneLine(texts[index]);

const steps = data.steps.map((row, id) => {
  const [name, of, inputs, outcome, worker, ready, start, end, elapsed, why, outputs, cost, evicted, since, attempts] = row;
  const invocation = of < 0 ? null : data.invocations[of];
  const label = oneLine(name);
  return {
    id, of, inputs, label: of < 0 ? "" : label,
    name: of < 0 ? label : oneLine(invocation[0]) + label,
    outcome: OUTCOMES[outcome], worker, ready, start, end, elapsed, why: text(why),
    outputs, bytes: outputs ? outputs.reduce((sum, size) => sum + (size === null ? 0 : size < 0 ? -size - 1 : size), 0) : null,
    gone: !!outputs && outputs.some(size => size !== null && size < 0),
    cost, evicted: evicted ? [evicted[0], text(evicted[1])] : null,
    since: Array.isArray(since) ? since.map(text) : ["unknown", "same", "new", "other"][since], attempts: attempts || [],
  };
});
const byName = new Map(steps.map(step => [step.name, step]));

// Inputs are written as ranges: `0-4,9`.
function inputsOf(step) {
  if (typeof step.inputs !== "string") return step.inputs;
  const all = [];
  for (const range of step.inputs ? step.inputs.split(",") : []) {
    const [from, to] = range.split("-").map(Number);
    for (let at = from; at <= (to ?? from); at++) all.push(at);
  }
  return step.inputs = all;
}
let readers = null;
function readersOf(step) {
  if (!readers) {
    readers = steps.map(() => []);
    for (const reader of steps) for (const above of inputsOf(reader)) readers[above].push(reader.id);
  }
  return readers[step.id];
}

// The steps of one invocation; a step whose invocation is not known stands for itself.
const groups = [];
{
  const known = new Map();
  for (const step of steps) {
    let group = step.of < 0 ? undefined : known.get(step.of);
    if (!group) {
      group = { id: groups.length, name: step.of < 0 ? step.name : oneLine(data.invocations[step.of][0]), steps: [], above: new Set() };
      groups.push(group);
      known.set(step.of, group);
    }
    step.group = group;
    group.steps.push(step);
    for (const above of inputsOf(step)) if (steps[above].group !== group) group.above.add(steps[above].group.id);
  }
}
const outputNames = step => step.of < 0 ? [] : data.invocations[step.of][1].map(oneLine);

function counted(list) {
  const counts = new Map();
  for (const step of list) counts.set(step.outcome, (counts.get(step.outcome) || 0) + 1);
  return OUTCOMES.filter(outcome => counts.has(outcome)).map(outcome => [outcome, counts.get(outcome)]);
}
// What decides the look of many: what people look for first.
const LOOKS = ["failed", "running", "cancelled", "skipped", "ran", "joined", "unchanged", "waiting", "reused", "not-needed"];
const lookOf = list => { const there = new Set(list.map(step => step.outcome)); return LOOKS.find(look => there.has(look)); };

const number = value => value.toLocaleString("en");
const plural = (count, noun) => `${number(count)} ${noun}${count === 1 ? "" : "s"}`;
function duration(ms) {
  if (ms < 100) return `${Math.round(ms)} ms`;
  if (ms < 59950) return `${(ms / 1000).toFixed(1)} s`;
  const seconds = Math.max(60, Math.floor(ms / 1000));
  const two = (large, unit, small, smaller) => small ? `${large} ${unit} ${small} ${smaller}` : `${large} ${unit}`;
  if (seconds < 3600) return two(Math.floor(seconds / 60), "min", seconds % 60, "s");
  if (seconds < 86400) return two(Math.floor(seconds / 3600), "h", Math.floor(seconds % 3600 / 60), "min");
  return two(Math.floor(seconds / 86400), "d", Math.floor(seconds % 86400 / 3600), "h");
}
function size(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  let unit = 0;
  while (bytes >= 999.5 && unit < units.length - 1) { bytes /= 1000; unit++; }
  return `${unit && bytes < 9.95 ? bytes.toFixed(1) : Math.round(bytes)} ${units[unit]}`;
}
const moment = ms => new Date(ms).toLocaleString("sv-SE");

// Elements are made one way: text is only ever text.
const SVG = "http://www.w3.org/2000/svg";
function make(space, tag, attributes, children) {
  const element = space ? document.createElementNS(space, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "text") element.textContent = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children || []) if (child) element.append(child);
  return element;
}
const html = (tag, attributes, children) => make(null, tag, attributes, children);
const svg = (tag, attributes, children) => make(SVG, tag, attributes, children);
const at = id => document.getElementById(id);
const icon = outcome => svg("svg", { class: "icon", viewBox: "0 0 12 12", "aria-hidden": "true" },
  [svg("path", { d: SHAPES[outcome], class: SOLID.has(outcome) ? "solid" : null })]);
const worded = (outcome, words) => html("span", { class: `word ${outcome}` }, [icon(outcome), words || outcome.replace("-", " ")]);
const short = (words, length) => words.length > length ? words.slice(0, length - 1) + "…" : words;

// What is selected, found and filtered; who draws it listens.
const state = { selected: null, query: "", outcome: null, matches: null };
const listeners = [];
const tell = what => listeners.forEach(listener => listener(what));
function select(step, from) {
  state.selected = step;
  const hash = step ? "#step=" + encodeURIComponent(step.name) : "#";
  if (from !== "hash") history.replaceState(null, "", hash);
  tell(from || "selected");
}
function find(query, outcome) {
  state.query = query;
  state.outcome = outcome;
  const wanted = query.trim().toLowerCase();
  state.matches = wanted || outcome ? new Set(steps.filter(step => (!outcome || step.outcome === outcome) &&
    (!wanted || step.name.toLowerCase().includes(wanted) || (step.why || "").toLowerCase().includes(wanted))).map(step => step.id)) : null;
  tell("found");
}
const matches = step => !state.matches || state.matches.has(step.id);
