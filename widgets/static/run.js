// The buttons of a run, its progress, its state in words, and the files that it writes.
function modelLine() {
  const where = h("span", { class: "fw-model-place" });
  const code = h("code", { class: "fw-code", tabindex: 0, "aria-label": "code that loads the model" });
  const copy = h("button", { type: "button", class: "fw-button fw-small", title: "copy the Python that loads this model", onclick: () => take() }, "copy code");
  const root = h("span", { class: "fw-model", hidden: true }, where, code, copy);
  let timer = 0;
  async function take() {
    try { await navigator.clipboard.writeText(code.textContent); } catch { // not allowed here: select the code instead
      code.classList.add("fw-shown");
      getSelection().selectAllChildren(code);
      return;
    }
    setText(copy, "copied");
    clearTimeout(timer);
    timer = setTimeout(setText, 1500, copy, "copy code");
  }
  return {
    root,
    update({ model, code: text }) {
      root.hidden = model === "";
      if (code.textContent !== text) code.classList.remove("fw-shown");
      setText(where, model);
      setAttribute(where, "title", model);
      setText(code, text);
      setAttribute(code, "title", text);
    },
    dispose: () => clearTimeout(timer),
  };
}

// The unfinished runs, and the button that opens one of them.
function chooser(send) {
  let value = "";
  const field = dropdown({ label: "unfinished", tip: "runs that failed, were stopped, or run elsewhere", choose: (name) => { value = name; } });
  const watch = h("button", { type: "button", class: "fw-button fw-small", onclick: () => send("watch", { name: value }) }, "Watch");
  const root = h("span", { class: "fw-unfinished", hidden: true }, field.root, watch);
  return {
    root,
    update(runs) {
      root.hidden = runs.length === 0;
      if (root.hidden) return;
      if (!runs.some((run) => run.value === value)) value = runs[0].value;
      field.update(value, runs);
    },
  };
}

export default panel("run", "Run", (body, { send }) => {
  const button = (words, action, primary) =>
    h("button", { type: "button", class: primary ? "fw-button fw-primary" : "fw-button", onclick: () => send(action()) }, words);
  let phase = "";
  let canResume = false;
  const start = button("Start", () => "start", true);
  const pause = button("Pause", () => (phase === "paused" || canResume ? "resume" : "pause"));
  const stop = button("Stop", () => "stop");
  const title = h("span", { class: "fw-run-title" });
  const words = h("span", { class: "fw-run-words" });
  const spoken = h("span", { class: "fw-spoken", role: "status" }); // screen readers announce only the phase, not every step
  const percent = h("span", { class: "fw-run-percent" });
  const fill = h("span", { class: "fw-progress-fill" });
  const bar = h("div", { class: "fw-progress", role: "progressbar", "aria-label": "progress of the run",
    "aria-valuemin": 0, "aria-valuemax": 100 }, fill);
  const kept = h("span", { class: "fw-kept" });
  const model = modelLine();
  const others = chooser(send);
  const tipId = freshId();
  const placeTip = h("span", { class: "fw-spoken", id: tipId });
  const place = dropdown({ label: "runs in", choose: (value) => send("place", { value }) });
  const select = place.root.querySelector("select");
  setAttribute(select, "aria-describedby", tipId);
  const warnings = h("div", { class: "fw-warnings", role: "status" });
  body.append(
    h("div", { class: "fw-run-line" }, title, h("span", { class: "fw-run-state" }, words, percent),
      h("span", { class: "fw-buttons" }, start, pause, stop)),
    bar,
    h("div", { class: "fw-run-disk" }, kept, model.root, others.root, h("span", { class: "fw-place" }, place.root, placeTip)),
    warnings,
    spoken,
  );
  // A button that is disabled passes its focus to an enabled one, so that the keyboard focus stays in the panel.
  const enable = (...pairs) => {
    const focused = pairs.find(([node]) => node === document.activeElement);
    for (const [node, acts] of pairs) if (acts) node.disabled = false;
    if (focused && !focused[1]) pairs.find(([, acts]) => acts)?.[0].focus();
    for (const [node, acts] of pairs) if (!acts) node.disabled = true;
  };
  let warned = "";
  const warn = (texts) => {
    const key = JSON.stringify(texts);
    if (key === warned) return;
    warned = key;
    warnings.replaceChildren(...texts.map((text) => h("p", {}, h("b", {}, "! "), text)));
  };
  return {
    update(state) {
      phase = state.phase;
      canResume = state.can_resume;
      setText(title, state.title);
      setAttribute(title, "title", state.title);
      setText(words, state.words);
      setAttribute(words, "title", state.words);
      setText(spoken, ["completed", "stopped", "failed"].includes(phase) ? `${state.words} ${state.kept.model}` : phase);
      setText(pause, phase === "paused" || canResume ? "Resume" : "Pause");
      enable([start, state.can_start], [pause, state.can_pause || canResume], [stop, state.can_stop]);
      const value = Math.floor(state.percent);
      setText(percent, ["ready", "preparing"].includes(phase) ? "" : `${value} %`);
      setAttribute(bar, "aria-valuenow", value);
      setAttribute(bar, "aria-valuetext", state.words);
      fill.style.width = `${state.percent}%`;
      setAttribute(body, "data-phase", phase);
      setText(kept, state.kept.checkpoints);
      kept.hidden = state.kept.checkpoints === "";
      model.update(state.kept);
      others.update(state.unfinished);
      place.update(state.place.value, state.place.options);
      setAttribute(place.root, "title", state.place.tip);
      setText(placeTip, state.place.tip);
      select.disabled = !state.place.can_change;
      warn(state.kept.warnings);
    },
    dispose: () => model.dispose(),
  };
});
