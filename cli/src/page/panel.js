// The step that is selected, whole: why it ran, how long, what it left, what it was made from.
const link = step => html("button", { type: "button", class: "link", text: step.name, onclick: () => show(step) });
const block = (title, children) => html("div", {}, [html("h4", { text: title }), ...children]);
const MOST_LINKS = 12;

// Selects a step from outside of the graph, and lets it be seen.
function show(step) {
  select(step);
  const frame = at("panel").getBoundingClientRect();
  if (frame.top > window.innerHeight - 120 || frame.bottom < 120) at("graph").scrollIntoView();
}
function links(ids) {
  const shown = ids.slice(0, MOST_LINKS).map(id => html("p", {}, [link(steps[id])]));
  if (ids.length > MOST_LINKS) shown.push(html("p", { class: "empty", text: `and ${number(ids.length - MOST_LINKS)} more` }));
  return shown;
}

function sizes(step) {
  const names = outputNames(step);
  return html("ul", {}, step.outputs.map((bytes, index) => html("li", {}, [
    html("span", { class: "mono", text: names[index] ?? `output ${index + 1}` }),
    html("span", { text: bytes === null ? "not produced" : bytes < 0 ? `${size(-bytes - 1)}, bytes gone` : size(bytes) }),
  ])));
}

function drawPanel() {
  const panel = at("panel"), step = state.selected;
  panel.replaceChildren();
  if (!step) {
    panel.append(html("p", { class: "empty", text: "Select a step to see why it ran, how long it took and what it was made from." }));
    return;
  }
  const columns = html("div", { class: "columns" });
  panel.append(html("div", { class: "head" }, [html("h3", { id: "selected", text: step.name }), html("p", {}, [worded(step.outcome, `${step.outcome.replace("-", " ")}: ${MEANING[step.outcome]}`)])]), columns);
  if (step.why) columns.append(block(step.outcome === "skipped" ? "Why it was skipped" : "Why it ran", [html("p", { class: "cause", id: "cause", text: step.why })]));
  const times = [];
  if (step.elapsed) times.push(["ran for", duration(step.elapsed)]);
  if (step.start) times.push(["began", `${duration(step.start)} into the run`]);
  if (step.ready && step.start - step.ready >= 1) times.push(["waited", duration(step.start - step.ready)]);
  if (step.worker >= 0) times.push(["on", `worker ${step.worker + 1}`]);
  if (step.outcome !== "ran" && step.cost) times.push(["took once", duration(step.cost)]);
  if (times.length) columns.append(block("Time", [html("ul", {}, times.map(([what, value]) => html("li", {}, [html("span", { text: what }), html("span", { text: value })])))]));
  if (step.attempts.length > 1) columns.append(block("Attempts", [html("ul", {}, step.attempts.map(([, elapsed, failure], index) => html("li", {}, [
    html("span", { text: `${index + 1}. ${failure < 0 ? "succeeded" : text(failure)}` }), html("span", { text: duration(elapsed) })])))]));
  if (step.outputs && step.outputs.length) columns.append(block("Outputs", [sizes(step)]));
  else if (step.outputs) columns.append(block("Outputs", [html("p", { text: "it has none" })]));
  else if (["reused", "ran", "unchanged", "joined"].includes(step.outcome)) columns.append(block("Outputs", [html("p", { class: "empty", text: "its result is not on record any longer" })]));
  if (step.evicted) columns.append(html("p", { class: "empty", text: `evicted on ${moment(step.evicted[0])} (${step.evicted[1]})` }));
  if (data.previous) {
    const since = { unknown: "not known", same: "the same version", new: "it was not in that run", other: "another version; what it was made of is not on record" };
    columns.append(block(`Since run ${data.previous.run}`, Array.isArray(step.since) ? step.since.map(fact => html("p", { class: "mono", text: fact })) : [html("p", { text: since[step.since] })]));
  }
  const last = step.attempts[step.attempts.length - 1];
  if (step.outcome === "failed" && last && last[4] >= 0) columns.append(block("It printed last", [html("pre", { tabindex: "0", text: ofLog(texts[last[4]]) })]));
  const above = inputsOf(step), below = readersOf(step);
  if (above.length) columns.append(block("Made from", links(above)));
  if (below.length) columns.append(block("Used by", links(below)));
}

function drawFailures() {
  const failed = steps.filter(step => step.outcome === "failed"), most = 20;
  at("failures").hidden = failed.length === 0;
  at("failed").replaceChildren(...failed.slice(0, most).map(step => {
    const [, , failure, hint, log, folder] = step.attempts[step.attempts.length - 1] || [0, 0, -1, -1, -1, -1];
    const tries = step.attempts.length > 1 ? ` (${step.attempts.length} attempts)` : "";
    return html("article", { class: "failure" }, [
      html("h3", {}, [link(step)]),
      html("p", { text: `${failure >= 0 ? text(failure) : step.why || "it failed"}${tries}` }),
      hint >= 0 ? html("p", { class: "hint", text: `hint: ${text(hint)}` }) : null,
      folder >= 0 ? html("p", { class: "hint", text: `its folder is kept: ${text(folder)} (run.sh repeats it)` }) : null,
      log >= 0 ? html("pre", { tabindex: "0", "aria-label": `What ${step.name} printed last`, text: ofLog(texts[log]) }) : null,
    ]);
  }), ...(failed.length > most ? [html("p", { class: "plain", text: `and ${number(failed.length - most)} more, in the table below` })] : []));
}

function startPanel() {
  listeners.push(what => { if (what !== "found") drawPanel(); });
  drawPanel();
  drawFailures();
}
