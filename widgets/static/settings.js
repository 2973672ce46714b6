// A field of the plan: a slider with a number field, a plain field, or a drop-down list.

// Slider position (0 to 1000) <-> value, for the three kinds of slider.
const SCALES = {
  log: ([low, high]) => ({
    value: (at) => Number((low * (high / low) ** (at / 1000)).toPrecision(2)),
    place: (value) => (1000 * Math.log(value / low)) / Math.log(high / low),
    step: 5,
  }),
  linear: ([low, high]) => ({
    value: (at) => Number((low + ((high - low) * at) / 1000).toFixed(2)),
    place: (value) => (1000 * (value - low)) / (high - low),
    step: 1000 / 60,
  }),
  list: (stops) => ({
    value: (at) => stops[Math.round((at / 1000) * (stops.length - 1))],
    place: (value) => {
      const next = stops.findIndex((stop) => stop >= value);
      if (next < 0) return 1000;
      if (next === 0) return 0;
      const part = (value - stops[next - 1]) / (stops[next] - stops[next - 1]);
      return (1000 * (next - 1 + part)) / (stops.length - 1);
    },
    step: 1000 / (stops.length - 1),
  }),
};

function settingField(spec, send) {
  const id = freshId();
  const isList = spec.options.length > 0;
  const input = isList
    ? h("select", { id, class: "fw-input" })
    : h("input", { id, class: "fw-input fw-number", type: "text", inputmode: "decimal", autocomplete: "off", placeholder: spec.none });
  const error = h("p", { class: "fw-field-error", role: "alert", id: `${id}-error` });
  const change = (value) => send("change", { name: spec.name, value });
  input.addEventListener("change", () => change(isList ? input.value || null : typed(input.value)));
  input.addEventListener("keydown", (event) => { if (event.key === "Enter") input.blur(); });
  setAttribute(input, "aria-describedby", `${id}-error ${id}-unit ${id}-tip`);
  const dot = spec.is_live ? liveMark() : null;
  const label = h("label", { for: id, title: spec.tip }, h("span", { class: "fw-explained" }, spec.title), dot);
  const unit = h("span", { class: "fw-unit", id: `${id}-unit` });
  const tip = h("span", { class: "fw-spoken", id: `${id}-tip` }, spec.tip);
  const slider = spec.slider ? rangeFor(spec, input, change) : null;
  const root = h("div", { class: `fw-setting${slider ? " fw-with-slider" : ""}`, title: spec.tip }, label, slider?.root, input, unit, tip, error);
  let refusals = 0;
  let listed = "";
  const list = (options) => {
    const key = JSON.stringify(options);
    if (key !== listed) input.replaceChildren(...options.map(({ value, title }) => h("option", { value }, title)));
    listed = key;
  };
  return {
    root,
    error,
    update(next, count, isRunning) {
      root.hidden = next.is_hidden;
      if (isList) list(next.options);
      if (dot) dot.hidden = !isRunning;
      setText(unit, next.effect || (spec.unit === spec.title ? "" : spec.unit)); // after a change, show when it takes effect instead of the unit
      unit.classList.toggle("fw-effect", next.effect !== "");
      if (document.activeElement !== input || count !== refusals || isList) input.value = asTyped(next.value);
      refusals = count;
      slider?.update(next.value);
      setText(error, next.error);
      setAttribute(input, "aria-invalid", next.error ? "true" : null);
    },
  };
}

function rangeFor(spec, input, change) {
  const scale = SCALES[spec.slider[0]](spec.slider[1]);
  const root = h("input", { type: "range", min: 0, max: 1000, step: scale.step, "aria-label": `${spec.title}, slider` });
  const say = (value) => root.setAttribute("aria-valuetext", value == null ? spec.none : inWords(value));
  let isHeld = false;
  root.addEventListener("input", () => { // the number follows the slider; the plan changes on release
    isHeld = true;
    input.value = asTyped(scale.value(Number(root.value)));
    say(scale.value(Number(root.value)));
  });
  root.addEventListener("change", () => { isHeld = false; change(scale.value(Number(root.value))); });
  return {
    root,
    update(value) {
      if (isHeld) return;
      root.value = value == null ? 0 : Math.max(0, Math.min(1000, scale.place(value)));
      say(value);
    },
  };
}

// Returns the module of a panel that has a few fields beside its heading, and a line about them. The heading may be a term.
function settingsPanel(name, title, heading = () => title) {
  return panel(name, title, (body, { send }) => {
    const line = h("div", { class: "fw-settings-line" });
    const note = h("p", { class: "fw-settings-note" });
    const errors = h("div", {}); // below the line, so that no field moves
    body.append(h("div", { class: "fw-head" }, h("h3", {}, heading()), line), errors, note);
    const fields = new Map();
    return {
      update(state) {
        for (const spec of state.fields) {
          if (!fields.has(spec.name)) {
            fields.set(spec.name, settingField(spec, send));
            line.append(fields.get(spec.name).root);
            errors.append(fields.get(spec.name).error);
          }
          fields.get(spec.name).update(spec, state.refusals, state.is_running);
        }
        setText(note, state.note);
      },
    };
  });
}
