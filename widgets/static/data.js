// The source of the rows, the columns that are used, the classes as bars, and example rows.
const PARTS = ["train", "validation", "test"];
const TERMS = {
  train: () => term("training rows", "train"),
  validation: () => term("validation rows", "validation"),
  test: () => term("test rows", "test"),
};

export default panel("data", "Data", (body, { send }) => {
  const field = combobox({ label: "Data", choose: (value) => send("choose", { value }) });
  const facts = h("p", { class: "fw-facts" });
  const columns = h("div", { class: "fw-columns" });
  const bars = h("div", { class: "fw-bars", role: "list", "aria-label": "rows of each class" });
  const notes = noteList();
  const skeleton = h("div", { class: "fw-skeleton fw-data-skeleton", "aria-hidden": "true" }, Array.from({ length: 3 }, () => h("i")));
  const rows = rowTable(send);
  const look = fold(rows.root, "look at rows", "hide rows");
  body.append(h("div", { class: "fw-head" }, h("h3", {}, "Data"), field.root), h("div", { class: "fw-facts-line" }, facts, look.root), skeleton, bars, columns, rows.root, notes.root);

  let shown = "";
  const describe = (split) => {
    const key = JSON.stringify([split.columns, split.classes, split.notes, split.task, split.task_guess]);
    if (key === shown) return;
    shown = key;
    const fields = split.columns.map((column) => [column.role, columnField(column)]);
    columns.replaceChildren(...fields.filter(([role]) => role !== "group").map(([, field]) => field),
      h("span", { class: "fw-task" }, split.task, split.task_guess && badge("guessed", `Guessed: ${split.task_guess}.`)));
    rows.group.replaceChildren(...fields.filter(([role]) => role === "group").map(([, field]) => field));
    bars.replaceChildren(...split.classes.map(classBar));
    const longest = (words) => Math.max(...split.classes.map((row) => words(row).length), 0);
    bars.style.setProperty("--fw-count", `${0.86 * longest(said)}ch`); // equal tracks; spaces and dots are narrower than digits
    bars.style.setProperty("--fw-name", `${1.05 * Math.min(14, longest((row) => row.name))}ch`);
    notes.update(split.notes);
  };
  function columnField({ role, field: name, place, tip, guess, value, options }) {
    const choice = dropdown({ label: role, tip, badge: guess && ["guessed", `Guessed: ${guess}. Choose another column if that is wrong.`],
      choose: (column) => send("column", { field: name, value: column, place }) });
    const none = role === "group" || place > 0 || value === "" ? [{ value: "", title: "none" }] : [];
    choice.update(value, [...none, ...options.map((option) => ({ value: option, title: option }))]);
    return choice.root;
  }
  const said = ({ rows: count, percent }) => `${count.toLocaleString("en-US")} · ${percent} %`;
  function classBar(row) {
    const { name, rows: count, percent } = row;
    return h("div", { role: "listitem", class: "fw-bar", title: `${name}: ${count.toLocaleString("en-US")} rows, ${percent} %` },
      h("span", { class: "fw-bar-name" }, name),
      h("span", { class: "fw-bar-track", "aria-hidden": "true" }, h("span", { class: "fw-bar-fill", style: `width:${percent}%` })),
      h("span", { class: "fw-bar-count" }, said(row)));
  }
  return {
    update(state) {
      field.update(state);
      setAttribute(body, "aria-busy", String(state.is_loading));
      const split = state.split;
      setTerms(facts, split ? split.facts : state.is_loading ? "reading …" : "no rows", TERMS);
      for (const node of [columns, bars]) node.hidden = !split;
      look.root.hidden = !split;
      skeleton.hidden = !state.is_loading;
      rows.root.hidden = !split || !look.isOpen;
      if (!split) return notes.update([], state.is_loading);
      describe(split);
      rows.update(split.page);
    },
    dispose: field.dispose,
  };
});

function rowTable(send) {
  let page = null;
  const go = (first, part = page.part) => send("page", { part, first });
  const part = dropdown({ label: "split", choose: (value) => go(0, value) });
  const back = h("button", { type: "button", class: "fw-button fw-icon", "aria-label": "earlier rows", onclick: () => go(page.first - page.size) }, "‹");
  const on = h("button", { type: "button", class: "fw-button fw-icon", "aria-label": "later rows", onclick: () => go(page.first + page.size) }, "›");
  const where = h("span", { role: "status" });
  const head = h("tr");
  const table = h("tbody");
  const group = h("span", { class: "fw-rows-group" });
  const root = h("div", { class: "fw-rows" },
    h("div", { class: "fw-rows-tools" }, part.root, where, back, on, group),
    h("div", { class: "fw-table-box", tabindex: 0, role: "group", "aria-label": "rows" }, h("table", {}, h("thead", {}, head), table)));
  part.update("train", PARTS.map((name) => ({ value: name, title: name })));
  const cell = (row, column) => {
    if (column === "image") return h("td", {}, h("img", { src: row.image, alt: `row ${row.number}` }));
    return h("td", { class: `fw-cell-${column}` }, column === "text" ? h("div", { title: row.text }, row.text) : String(row[column] ?? ""));
  };
  let shown = "";
  return {
    root,
    group,
    update(next) {
      const key = JSON.stringify(next);
      if (key === shown) return;
      shown = key;
      page = next;
      part.update(page.part, PARTS.map((name) => ({ value: name, title: name })));
      setText(where, page.count ? `${page.first + 1}–${page.first + page.rows.length} of ${page.count.toLocaleString("en-US")}` : "no rows");
      back.disabled = page.first === 0;
      on.disabled = page.first + page.size >= page.count;
      const columns = ["number", page.rows[0]?.image ? "image" : "text", ...(page.rows[0]?.label == null ? [] : ["label"])];
      head.replaceChildren(...columns.map((column) => h("th", { scope: "col" }, column === "number" ? "row" : column)));
      table.replaceChildren(...page.rows.map((row) => h("tr", {}, columns.map((column) => cell(row, column)))));
    },
  };
}
