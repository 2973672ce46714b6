// The results of a step: scores per class, the confusion matrix, the worst rows; and the button for the test score.
const WIDE = 7; // classes from which the names above the matrix stand upright

export default panel("results", "Results", (body, { send }) => {
  const empty = h("p", { class: "fw-nothing" });
  const steps = dropdown({ label: "at", tip: "an evaluated step of the run", choose: (value) => show(value) });
  const button = h("button", { type: "button", class: "fw-button fw-primary", onclick: () => show(steps.root.querySelector("select").value) }, "Show results");
  const doing = h("span", { class: "fw-doing", role: "status" });
  const facts = h("p", { class: "fw-facts" });
  const tables = h("div", { class: "fw-results-tables" });
  const worst = h("div", { class: "fw-results-worst" });
  const score = h("button", { type: "button", class: "fw-button", onclick: () => { setText(scoring, "scoring the test rows …"); score.disabled = true; send("score"); } });
  const scoring = h("span", { class: "fw-doing", role: "status" });
  const words = h("p", { class: "fw-facts" });
  const value = h("p", { class: "fw-results-score" });
  const acts = h("div", { class: "fw-head" }, score, scoring);
  const test = h("div", { class: "fw-results-test", role: "group", "aria-label": "test score" }, h("h4", {}, "Test score"), value, words, acts);
  body.append(h("div", { class: "fw-head" }, h("h3", {}, "Results"), steps.root, button, doing), empty, facts, tables, test, worst);

  function show(step) {
    setText(doing, "loading the model …"); // at once, before the kernel has answered
    button.disabled = true;
    send("show", { step });
  }

  const NUMBERS = ["precision", "recall", "F1", "rows"];
  const perClass = (classes) => h("div", { class: "fw-table-box", tabindex: 0, role: "group", "aria-label": "scores per class" },
    h("table", { class: "fw-results-classes" },
      h("thead", {}, h("tr", {}, ["class", ...NUMBERS].map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", {}, classes.map(({ name, numbers }) => h("tr", {}, h("th", { scope: "row", title: name }, name), numbers.map((number) => h("td", {}, number)))))));

  function confusion({ labels, counts, shares, note }) {
    if (note) return h("p", { class: "fw-nothing" }, note);
    const upright = labels.length >= WIDE ? "fw-upright" : "";
    const cell = (count, i, j) => h("td", {
      class: i === j ? "fw-right" : count ? "" : "fw-zero", style: `--share:${shares[i][j]}`,
      title: `${count.toLocaleString("en-US")} rows of ${labels[i]} predicted as ${labels[j]}` }, count.toLocaleString("en-US"));
    return h("div", { class: "fw-table-box fw-matrix-box", tabindex: 0, role: "group", "aria-label": "confusion matrix" },
      h("table", { class: `fw-matrix ${upright}` }, h("caption", {}, "rows: true class · columns: predicted class"),
        h("thead", {}, h("tr", {}, h("td", {}), labels.map((name) => h("th", { scope: "col", title: name }, h("span", {}, name))))),
        h("tbody", {}, counts.map((line, i) => h("tr", {}, h("th", { scope: "row", title: labels[i] }, labels[i]), line.map((count, j) => cell(count, i, j)))))));
  }

  const entry = (cell) => h("td", {}, cell.image ? h("img", { src: cell.image, alt: "" }) : h("div", { class: `fw-results-cell${cell.text.length > 20 ? "" : " fw-short"}`, title: cell.text }, cell.text));
  const rows = ({ title, columns, rows: lines }) => [h("h4", {}, title), lines.length === 0 ? h("p", { class: "fw-nothing" }, "none") :
    h("div", { class: "fw-table-box", tabindex: 0, role: "group", "aria-label": title }, h("table", {},
      h("thead", {}, h("tr", {}, columns.map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", {}, lines.map((line) => h("tr", {}, line.map(entry))))))];

  let shown = "";
  return {
    update(state) {
      setText(empty, state.empty);
      empty.hidden = state.empty === "";
      for (const node of [steps.root, test]) node.hidden = state.empty !== "";
      steps.update(state.step, state.steps);
      steps.root.querySelector("select").disabled = state.is_busy;
      button.hidden = state.empty !== "" || state.results != null;
      button.disabled = state.is_busy;
      setText(doing, state.doing);
      const key = JSON.stringify(state.results);
      if (key !== shown) {
        shown = key;
        setText(facts, state.results?.facts ?? "");
        tables.replaceChildren(...(state.results?.classes ? [perClass(state.results.classes), confusion(state.results.matrix)] : []));
        worst.replaceChildren(...(state.results ? rows(state.results.mistakes) : []));
      }
      const { test: { score: found, times } } = state;
      setText(value, found);
      setText(words, !found ? state.test.words
        : `The test rows are spent${times > 1 ? ` (scored ${times} times)` : ""}: choose nothing by this score, or take new rows for the next one.`);
      acts.hidden = found !== "";
      score.disabled = !state.test.can_score;
      setText(score, state.test.button);
      setText(scoring, state.test.doing);
    },
  };
});
