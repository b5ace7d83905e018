// All steps as a table, the same facts for those who read rather than look; and what differs from the run before.
const COLUMNS = [
  ["Outcome", step => LOOKS.indexOf(step.outcome)], ["Step", step => step.name], ["Why", step => step.why || ""],
  ["Took", step => -(step.elapsed || 0), "number"], ["Saved", step => -(step.outcome === "ran" ? 0 : step.cost), "number"], ["Size", step => -(step.bytes ?? -1), "number"],
];
const PAGE = 60;
const table = { by: 0, back: false, shown: PAGE };

function sorted() {
  const key = COLUMNS[table.by][1], turn = table.back ? -1 : 1;
  const compare = (a, b) => { const x = key(a), y = key(b); return (x < y ? -1 : x > y ? 1 : 0) * turn || a.id - b.id; };
  return steps.filter(matches).sort(compare);
}
function tableRow(step) {
  const bytes = step.bytes === null ? "" : step.gone ? `${size(step.bytes)}, gone` : size(step.bytes);
  return html("tr", { class: step === state.selected ? "selected" : null, "data-step": step.id }, [
    html("td", {}, [worded(step.outcome)]), html("td", { class: "step" }, [link(step)]), html("td", { class: "why", text: step.why || "" }),
    html("td", { class: "number", text: step.elapsed ? duration(step.elapsed) : "" }),
    html("td", { class: "number", text: step.outcome !== "ran" && step.cost ? duration(step.cost) : "" }), html("td", { class: "number", text: bytes }),
  ]);
}
function drawTable() {
  const head = at("table").tHead.rows[0], body = at("table").tBodies[0], all = sorted();
  head.replaceChildren(...COLUMNS.map(([name, , kind], index) => html("th", { class: kind, scope: "col", "aria-sort": index === table.by ? (table.back ? "descending" : "ascending") : null }, [
    html("button", { type: "button", text: `${name}${index === table.by ? (table.back ? " ↑" : " ↓") : ""}`, onclick: () => { table.back = table.by === index && !table.back; table.by = index; drawTable(); } })])));
  body.replaceChildren(...all.slice(0, table.shown).map(tableRow));
  const left = all.length - table.shown, more = at("more");
  more.hidden = left <= 0;
  more.textContent = `Show ${number(Math.min(left, 500))} more of ${number(all.length)}`;
}

function drawChanges() {
  const area = at("changes"), before = data.previous;
  if (!before) { area.append(html("p", { class: "plain", text: "There is no earlier run of this pipeline on record." })); return; }
  at("since-title").textContent = `Since run ${before.run}`;
  const causes = new Map(), put = (cause, step) => { if (!causes.has(cause)) causes.set(cause, []); causes.get(cause).push(step); };
  for (const step of steps) {
    if (Array.isArray(step.since)) put(step.since.join("; ") || "its facts are the same, its inputs' content is not", step);
    else if (step.since === "new") put("new in this run", step);
    else if (step.since === "other") put("another version; what it was made of is not on record", step);
  }
  for (const [what, was, is] of before.how) area.append(html("div", { class: "change" }, [html("span", { class: "what", text: `${oneLine(what)}: ${oneLine(was)} → ${oneLine(is)}` }), html("span", { class: "count", text: "how it was started" })]));
  // A cause that is met by way of an input comes after the one that it came from.
  const list = [...causes].sort((a, b) => a[1][0].id - b[1][0].id);
  for (const [cause, of] of list.slice(0, 200)) {
    const who = html("div", { class: "who" }, of.slice(0, 6).map(link));
    if (of.length > 6) who.append(html("span", { class: "quietly", text: `and ${number(of.length - 6)} more` }));
    area.append(html("div", { class: "change" }, [html("span", { class: "what", text: cause }), html("span", { class: "count", text: plural(of.length, "step") }), who]));
  }
  if (list.length > 200) area.append(html("p", { class: "plain", text: `and ${number(list.length - 200)} causes more` }));
  const same = steps.filter(step => step.since === "same").length;
  area.append(html("p", { class: "plain", text: `${plural(same, "step")} had the same version as in run ${before.run} (${moment(before.started)}).` }));
}

function startTable() {
  at("more").addEventListener("click", () => { table.shown += 500; drawTable(); });
  at("table").addEventListener("click", event => {
    const row = event.target.closest("tr[data-step]");
    if (row && !event.target.closest("button")) show(steps[row.dataset.step]);
  });
  // On paper there is no button to press.
  window.addEventListener("beforeprint", () => { table.shown = Math.max(table.shown, 1000); drawTable(); });
  listeners.push(drawTable);
  drawTable();
  drawChanges();
}
