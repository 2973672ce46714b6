// The run that is shown: its name, its plan, its progress, its state in words, its buttons, and its files.
const TERMS = { checkpoint: () => term("checkpoint"), checkpoints: () => term("checkpoint", "checkpoints") };

export default panel("run", "Run", (body, { send }) => {
  let state = null;
  let asked = ""; // what a button asked for, until the kernel has answered
  const button = (words, action) => h("button", { type: "button", class: "fw-button", onclick: () => ask(action()) }, words);
  const canResume = () => state.phase === "paused" || state.can_resume;
  const pause = button("Pause", () => (canResume() ? "resume" : "pause"));
  const stop = button("Stop", () => "stop");
  const name = h("h3", { class: "fw-run-name" });
  const place = h("span", { class: "fw-run-place" });
  const plan = h("span", { class: "fw-run-title" });
  const words = h("span", { class: "fw-run-words" });
  const spoken = h("span", { class: "fw-spoken", role: "status" }); // screen readers announce only the phase, not every step
  const percent = h("span", { class: "fw-run-percent" });
  const fill = h("span", { class: "fw-progress-fill" });
  const bar = h("div", { class: "fw-progress", role: "progressbar", "aria-label": "progress of the run",
    "aria-valuemin": 0, "aria-valuemax": 100 }, fill);
  const kept = h("span", { class: "fw-kept" });
  const verified = h("span", { class: "fw-verified" });
  const uses = modelUses();
  const use = fold(uses.root, "▸ Use this model", "▾ Use this model");
  const broken = h("p", { class: "fw-broken", role: "alert" });
  const warnings = h("div", { class: "fw-warnings", role: "status" });
  body.append(
    h("div", { class: "fw-run-line" },
      h("div", { class: "fw-run-who" }, name, plan), h("span", { class: "fw-buttons" }, pause, stop)),
    h("div", { class: "fw-run-state" }, words, percent), bar,
    h("div", { class: "fw-run-disk" }, place, kept, verified, use.root),
    uses.root, broken, warnings, spoken,
  );

  function ask(action) {
    asked = { pause: "pausing …", resume: "resuming …", stop: "stopping …" }[action];
    draw();
    send(action, {}, () => { asked = ""; draw(); });
  }

  // A button that is disabled passes its focus to an enabled one, so that the keyboard focus stays in the panel.
  function enable(...pairs) {
    const focused = pairs.find(([node]) => node === document.activeElement);
    for (const [node, acts] of pairs) if (acts) node.disabled = false;
    if (focused && !focused[1]) pairs.find(([, acts]) => acts)?.[0].focus();
    for (const [node, acts] of pairs) if (!acts) node.disabled = true;
  }

  let warned = "";
  function warn(texts) {
    const key = JSON.stringify(texts);
    if (key === warned) return;
    warned = key;
    warnings.replaceChildren(...texts.map((text) => h("p", {}, h("b", {}, "! "), text)));
  }

  function say(node, text) {
    setText(node, text);
    setAttribute(node, "title", text || null);
  }

  function draw() {
    const { phase } = state;
    say(name, state.name);
    say(place, state.place);
    say(plan, state.plan);
    say(words, asked || state.words);
    setText(spoken, ["completed", "stopped", "interrupted", "failed"].includes(phase) ? state.words : phase);
    setText(pause, canResume() ? "Resume" : "Pause");
    enable([pause, !asked && (state.can_pause || canResume())], [stop, !asked && state.can_stop]);
    const value = Math.floor(state.percent);
    setText(percent, ["none", "preparing"].includes(phase) ? "" : `${value} %`);
    setAttribute(bar, "aria-valuenow", value);
    setAttribute(bar, "aria-valuetext", state.words);
    fill.style.width = `${state.percent}%`;
    setAttribute(body, "data-phase", phase);
    setTerms(kept, state.kept.checkpoints, TERMS);
    say(verified, state.verified ? `✓ ${state.verified}` : "");
    setText(broken, state.broken);
    use.root.hidden = state.kept.model === "";
    setAttribute(use.root, "title", state.kept.model);
    uses.root.hidden = use.root.hidden || !use.isOpen;
    uses.update(state.kept.uses);
    warn(state.kept.warnings);
  }

  const isLive = () => ["preparing", "running", "paused"].includes(state.phase);
  function lost() {
    if (!isLive()) return "";
    setText(words, `when the kernel was restarted: ${state.words}`);
    return state.place === "in this notebook" ? "Then resume this run in the tab Runs." : "This run goes on: open it in the tab Runs.";
  }

  return { update(next) { state = next; draw(); }, dispose: uses.dispose, lost };
});
