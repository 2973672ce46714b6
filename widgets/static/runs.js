// The list of runs, newest first. A row opens and then has what can be done with its run.
export default panel("runs", "Runs", (body, { send }) => {
  const rows = new Map(); // name -> row
  let open = ""; // the name of the row that is open
  let asked = ""; // what a button asked for, until the kernel has answered
  let state = null;
  const list = h("div", { class: "fw-run-list", role: "list", onkeydown: onKey });
  const empty = h("p", { class: "fw-nothing" });
  const hint = h("span", { class: "fw-runs-hint" }, "All runs of this folder, newest first. Click one to open, resume, fork, compare or delete it.");
  const doing = h("span", { class: "fw-doing" });
  const undone = h("span", {});
  const undo = h("button", { type: "button", class: "fw-link-button", onclick: () => act("restore", "restoring …", { name: state.deleted.name }) }, "Undo");
  const trash = h("span", { class: "fw-trash", role: "status" }, undone, undo);
  body.append(h("div", { class: "fw-runs-head" }, h("h3", {}, "Runs"), hint, doing, trash), empty, list);

  function act(action, words, args) {
    if (asked || state.doing) return;
    asked = words;
    draw();
    send(action, args, () => { asked = ""; draw(); });
  }

  function onKey(event) {
    const heads = [...list.querySelectorAll(".fw-row-head")];
    const at = heads.indexOf(document.activeElement);
    const next = { ArrowDown: heads[at + 1], ArrowUp: heads[at - 1] }[event.key];
    if (at < 0 || !next) return;
    event.preventDefault();
    next.focus();
  }

  function toggle(name) {
    open = open === name ? "" : name;
    draw();
  }

  function draw() {
    const isBusy = Boolean(asked || state.doing);
    setText(doing, asked || state.doing);
    trash.hidden = state.deleted.name === "";
    setText(undone, `Deleted: ${state.deleted.title}${state.deleted.count > 1 ? ` (and ${state.deleted.count - 1} before)` : ""}`);
    undo.disabled = isBusy;
    hint.hidden = state.rows.length === 0;
    empty.hidden = state.is_read && state.rows.length > 0 && state.hidden === 0;
    setText(empty, !state.is_read ? "reading the runs …" : state.rows.length === 0 ? `No runs in ${state.folder} yet. Start one: it is kept there.`
      : `${state.hidden} older runs are not listed here: wb.list_runs() has all.`);
    const names = new Set(state.rows.map((row) => row.name));
    for (const [name, row] of rows) if (!names.has(name)) { row.root.remove(); rows.delete(name); }
    state.rows.forEach((data, i) => {
      if (!rows.has(data.name)) rows.set(data.name, runRow(data.name, toggle, act));
      const row = rows.get(data.name);
      if (list.children[i] !== row.root) list.insertBefore(row.root, list.children[i] ?? null);
      row.update(data, open === data.name, isBusy);
    });
  }

  return { update(next) { state = next; draw(); } };
});

function runRow(name, toggle, act) {
  const [title, about, score, badge] = ["fw-row-title", "fw-row-about", "fw-row-score", "fw-row-badge"].map((kind) => h("span", { class: kind }));
  const actsId = freshId();
  const head = h("button", { type: "button", class: "fw-row-head", "aria-controls": actsId, onclick: () => toggle(name) },
    h("span", { class: "fw-row-dot", "aria-hidden": "true" }), title, score, about, badge, h("span", { class: "fw-row-arrow", "aria-hidden": "true" }, "▸"));
  const button = (words, run, kind) => h("button", { type: "button", class: `fw-button fw-small ${kind ?? ""}`, onclick: run }, words);
  const openIt = button("Open", () => act("open", "opening …", { name }), "fw-primary");
  const resume = button("Resume", () => act("resume", "resuming …", { name }));
  const forking = button("Fork …", () => { form.hidden = !form.hidden; isTouched = false; setAttribute(forking, "aria-expanded", String(!form.hidden)); if (!form.hidden) step.focus(); });
  const overlay = button("Compare curves", () => act("overlay", "reading its curves …", { name }));
  const why = h("span", { class: "fw-row-why" });
  const remove = button("Delete", () => act("delete", "deleting …", { name }));
  const stepId = freshId();
  const field = (id) => h("input", { id, class: "fw-input fw-number", type: "text", inputmode: "decimal", autocomplete: "off" });
  const step = field(stepId);
  const fields = new Map(); // field of the plan -> its input
  const changes = h("span", { class: "fw-row-fields" });
  const start = () => act("fork", "starting the fork …", { name, step: typed(step.value),
    ...Object.fromEntries([...fields].map(([name, input]) => [name, typed(input.value)])) });
  const form = h("div", { class: "fw-row-fork", role: "group", "aria-label": "a fork of this run", hidden: true,
    onkeydown: (event) => { if (event.key === "Enter" && event.target !== go) start(); } },
  h("label", { for: stepId }, "from step"), step, changes);
  const go = button("Start fork", start);
  form.append(go);
  const acts = h("div", { class: "fw-row-acts", id: actsId, role: "group", "aria-label": `what to do with ${name}`, hidden: true },
    h("span", { class: "fw-row-name" }, name), openIt, resume, forking, overlay, why, remove, form);
  const root = h("div", { class: "fw-row", role: "listitem" }, head, acts);
  let begun = "";
  let isTouched = false; // whether somebody has typed into the form, which is then left alone
  form.addEventListener("input", () => { isTouched = true; });

  const enable = (node, can, why) => {
    node.disabled = !can;
    setAttribute(node, "title", can ? null : why);
  };

  return {
    root,
    update(row, isOpen, isBusy) {
      setAttribute(root, "data-tone", row.tone);
      root.classList.toggle("fw-row-shown", row.is_shown);
      setText(title, row.title);
      setText(about, [row.state, row.origin, row.when, row.age].filter(Boolean).join(" · "));
      setText(score, row.score);
      setText(badge, row.is_shown ? "shown" : row.is_overlaid ? "compared" : "");
      setAttribute(head, "title", name);
      setAttribute(head, "aria-expanded", String(isOpen));
      acts.hidden = !isOpen;
      enable(openIt, row.can_open && !isBusy, row.is_shown ? "it is shown already" : "");
      resume.hidden = !row.can_resume;
      enable(resume, !isBusy);
      forking.hidden = row.fork == null;
      enable(go, !isBusy);
      overlay.hidden = !row.can_overlay;
      const isRefused = row.incomparable !== "" && !row.is_overlaid;
      enable(overlay, !isBusy && !isRefused, isRefused ? `can't be compared: ${row.incomparable}` : "");
      setText(why, isRefused ? `can't be compared: ${row.incomparable}` : "");
      setText(overlay, row.is_overlaid ? "Stop comparing" : "Compare curves");
      enable(remove, row.keep === "" && !isBusy, row.keep);
      const key = JSON.stringify(row.fork);
      if (row.fork && key !== begun && !isTouched) {
        begun = key;
        step.value = asTyped(row.fork.step);
        fields.clear();
        changes.replaceChildren(...row.fork.fields.flatMap(({ name, title, value }) => {
          const input = field(freshId());
          input.value = asTyped(value);
          fields.set(name, input);
          return [h("label", { for: input.id }, title), input];
        }));
      }
    },
  };
}
