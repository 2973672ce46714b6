// The buttons of a run, its progress, and its state in words.
export default panel("run", "Run", (body, { send }) => {
  const button = (words, action, primary) =>
    h("button", { type: "button", class: primary ? "fw-button fw-primary" : "fw-button", onclick: () => send(action()) }, words);
  let phase = "";
  const start = button("Start", () => "start", true);
  const pause = button("Pause", () => (phase === "paused" ? "resume" : "pause"));
  const stop = button("Stop", () => "stop");
  const title = h("span", { class: "fw-run-title" });
  const words = h("span", { class: "fw-run-words" });
  const spoken = h("span", { class: "fw-spoken", role: "status" }); // the phase alone: not every step
  const percent = h("span", { class: "fw-run-percent" });
  const fill = h("span", { class: "fw-progress-fill" });
  const bar = h("div", { class: "fw-progress", role: "progressbar", "aria-label": "progress of the run",
    "aria-valuemin": 0, "aria-valuemax": 100 }, fill);
  body.append(
    h("div", { class: "fw-run-line" }, title, h("span", { class: "fw-run-state" }, words, percent),
      h("span", { class: "fw-buttons" }, start, pause, stop)),
    bar,
    spoken,
  );
  // A button that stops acting hands its focus to one that does, so that the keyboard never falls out of the panel.
  const enable = (...pairs) => {
    const focused = pairs.find(([node]) => node === document.activeElement);
    for (const [node, acts] of pairs) if (acts) node.disabled = false;
    if (focused && !focused[1]) pairs.find(([, acts]) => acts)?.[0].focus();
    for (const [node, acts] of pairs) if (!acts) node.disabled = true;
  };
  return {
    update(state) {
      phase = state.phase;
      setText(title, state.title);
      setAttribute(title, "title", state.title);
      setText(words, state.words);
      setText(spoken, state.phase === "ended" ? state.words : state.phase);
      setText(pause, phase === "paused" ? "Resume" : "Pause");
      enable([start, state.can_start], [pause, state.can_pause], [stop, state.can_stop]);
      const value = Math.floor(state.percent);
      setText(percent, ["ready", "preparing"].includes(phase) ? "" : `${value} %`);
      setAttribute(bar, "aria-valuenow", value);
      setAttribute(bar, "aria-valuetext", state.words);
      fill.style.width = `${state.percent}%`;
      setAttribute(body, "data-phase", phase);
    },
  };
});
