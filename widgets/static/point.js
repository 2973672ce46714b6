// The box of a selected step: its measurements, sample outputs, and the form for a fork.
function pointBox(send) {
  const step = h("b", {});
  const facts = h("span", { class: "fw-point-facts" });
  const close = h("button", { type: "button", class: "fw-dismiss", "aria-label": "close", onclick: () => send("leave") }, "×");
  const samples = h("button", { type: "button", class: "fw-button", onclick: () => ask("samples", "loading …") }, "Samples");
  const formId = freshId();
  const forking = h("button", { type: "button", class: "fw-button", "aria-expanded": "false", "aria-controls": formId,
    onclick: () => { showForm(form.hidden); if (!form.hidden) rate.focus(); } }, "Fork from here");
  const doing = h("span", { class: "fw-doing", role: "status" });
  const rateId = freshId();
  const rate = h("input", { id: rateId, class: "fw-input fw-number", type: "text", inputmode: "decimal", autocomplete: "off" });
  const layers = dropdown({ label: "layers", tip: "layers that are trainable in the fork", choose: () => {} });
  const select = layers.root.querySelector("select");
  const start = () => ask("fork", "starting the fork …", { learning_rate: typed(rate.value), layers: select.value });
  const form = h("div", { id: formId, class: "fw-fork-form", role: "group", "aria-label": "a fork from this step", hidden: true },
    h("div", { class: "fw-field" }, h("label", { for: rateId }, "learning rate"), rate), layers.root,
    h("button", { type: "button", class: "fw-button fw-primary", onclick: start }, "Start fork"));
  const go = form.lastChild;
  rate.addEventListener("keydown", (event) => { if (event.key === "Enter") start(); });
  const problem = problemBox(() => send("settle"));
  const table = h("div", { class: "fw-table-box", tabindex: 0, role: "group", "aria-label": "sample outputs" });
  const root = h("div", { class: "fw-point", role: "group", "aria-label": "a step of the run", hidden: true },
    h("div", { class: "fw-point-head" }, step, facts, close),
    h("div", { class: "fw-point-acts" }, samples, forking, form, doing), problem.box, table);
  root.addEventListener("keydown", (event) => { if (event.key === "Escape") send("leave"); });

  const showForm = (isOpen) => {
    form.hidden = !isOpen;
    setAttribute(forking, "aria-expanded", String(isOpen));
  };
  const cell = (value) => h("td", {}, value.image
    ? h("img", { src: value.image, alt: "" }) : h("div", { class: value.text.length > 24 ? "fw-sample" : "fw-sample fw-short", title: value.text }, value.text));
  let shown = null; // the step for which the form was filled in
  let asked = ""; // what a button asked for, until the kernel has answered
  let work = ""; // what the kernel does
  let tabled = "";

  function ask(action, words, args) {
    if (asked || work) return;
    asked = words;
    say();
    send(action, args, () => { asked = ""; say(); });
  }

  function say() {
    setText(doing, asked || work);
    for (const button of [samples, go]) button.disabled = Boolean(asked || work);
  }

  function fill(point) {
    if (point.step === shown) return;
    shown = point.step;
    showForm(false);
    rate.value = asTyped(point.learning_rate);
    layers.update(point.layer, point.layers.map((words) => ({ value: words, title: words })));
    setText(step, `step ${inWords(point.step)}`);
  }

  function list(samples) {
    const key = JSON.stringify(samples);
    if (key === tabled) return;
    tabled = key;
    table.hidden = samples == null;
    table.replaceChildren(...(samples ? [h("table", {},
      h("thead", {}, h("tr", {}, samples.columns.map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", {}, samples.rows.map((row) => h("tr", {}, row.map(cell)))))] : []));
  }

  return {
    root,
    update(point) {
      const hadFocus = root.contains(document.activeElement);
      root.hidden = point == null;
      if (point == null) {
        shown = null;
        return hadFocus; // the caller then sets the focus
      }
      fill(point);
      facts.replaceChildren(...point.facts.map((words) => h("span", {}, words)));
      work = point.doing;
      say();
      problem.update(point.problem);
      list(point.samples);
      return false;
    },
  };
}
