// The head of the page, and everything put together.
function sentence() {
  const counts = data.summary, bold = words => html("strong", { text: words }), parts = [];
  const ran = counts.ran, reused = counts.reused + counts.unchanged + counts.joined;
  if (!data.ended) parts.push(bold("Has not ended, or was killed."), ` So far, ${moment(data.noted)}: `);
  if (ran === 0 && counts.failed === 0 && data.ended && !counts.interrupted) parts.push(bold("Nothing had to run"), ` of ${plural(steps.length, "step")}`);
  else parts.push(bold(`${number(ran)} of ${plural(steps.length, "step")} ran`));
  if (counts.failed) parts.push(", ", bold(`${number(counts.failed)} failed`));
  if (counts.interrupted) parts.push(", and the run was stopped");
  parts.push(`, in ${duration(counts.elapsed_ms)}.`);
  const saved = steps.reduce((sum, step) => sum + (["reused", "unchanged", "joined"].includes(step.outcome) ? step.cost : 0), 0);
  if (reused) parts.push(` ${plural(reused, "result")} ${reused === 1 ? "was" : "were"} there already` + (saved ? `, which saved ${duration(saved)}.` : "."));
  at("sentence").append(...parts);
}

function startHead() {
  document.title = `${oneLine(data.pipeline)} · run ${data.run}` + (data.combination ? ` · ${oneLine(data.combination)}` : "");
  at("pipeline").append(oneLine(data.pipeline) || "pipeline", html("small", { text: `run ${data.run}` }));
  // Of a sweep, which combination it was for: all of its runs have the same command line.
  if (data.combination) at("pipeline").append(html("small", { class: "combination", text: oneLine(data.combination) }));
  sentence();
  const counts = counted(steps);
  at("shares").setAttribute("aria-label", counts.map(([outcome, count]) => `${count} ${outcome}`).join(", "));
  for (const [outcome, count] of counts) {
    const share = html("i", { class: outcome });
    share.style.flexGrow = count;
    at("shares").append(share);
    const chip = html("button", { type: "button", class: `chip ${outcome}`, "aria-pressed": "false", title: MEANING[outcome], "data-outcome": outcome },
      [icon(outcome), `${number(count)} ${outcome.replace("-", " ")}`]);
    chip.addEventListener("click", () => find(state.query, state.outcome === outcome ? null : outcome));
    at("legend").append(chip);
  }
  const facts = [["Began", moment(data.started)], ["Command", data.command], ["Mode", data.mode], ["Machine", data.host], ["At once", data.jobs ? plural(data.jobs, "step") : null], ["Pipeline file", data.file]];
  for (const [what, value] of facts) if (value) at("facts").append(html("div", {}, [html("dt", { text: what }), html("dd", { class: what === "Command" || what === "Pipeline file" ? "mono" : null, text: oneLine(String(value)) })]));
  const gone = steps.filter(step => step.gone).length;
  if (gone) at("facts").after(html("p", { class: "note", text: `The bytes of ${plural(gone, "result")} are not in the store any longer; what is known of them is still shown.` }));
  const sections = [["failures", "Failures"], ["graph", "Graph"], ["timeline", "Timeline"], ["since", "Changes"], ["steps", "Steps"]];
  for (const [id, name] of sections) if (!at(id).hidden) at("nav").append(html("a", { href: `#${id}`, text: name }));
  at("foot").textContent = `Made by cas ${data.program} on ${moment(data.made)}. This page is whole: it asks nothing of the network.`;
}

function startSearch() {
  const search = at("search");
  search.addEventListener("input", () => find(search.value, state.outcome));
  search.addEventListener("keydown", event => {
    if (event.key === "Escape") { search.value = ""; find("", state.outcome); }
    if (event.key !== "Enter" || !state.matches || !state.matches.size) return;
    const found = steps.filter(matches), next = found[(found.indexOf(state.selected) + 1) % found.length];
    if (next.group.steps.length > 1 && !graph.unfolded.has(next.group.id)) unfold(next.group, true);
    select(next);
  });
  document.addEventListener("keydown", event => {
    if (event.key === "/" && !event.target.closest("input") && !event.ctrlKey && !event.metaKey) { event.preventDefault(); search.focus(); }
  });
  listeners.push(what => {
    if (what !== "found") return;
    at("hits").textContent = state.matches ? `${number(state.matches.size)} found` : "";
    for (const chip of at("legend").children) chip.setAttribute("aria-pressed", String(chip.dataset.outcome === state.outcome));
  });
}
function fromHash() {
  const wanted = /^#step=(.*)$/.exec(location.hash);
  let name = null;
  try { name = wanted && decodeURIComponent(wanted[1]); } catch { return; }
  const step = name !== null && byName.get(name);
  if (step && step !== state.selected) select(step, "hash");
}

// Before the head, which names the sections that are there.
drawFailures();
startHead();
startPanel();
if (steps.length) startGraph(); else at("graph").hidden = true;
startTimeline();
startTable();
startSearch();
window.addEventListener("hashchange", fromHash);
fromHash();
