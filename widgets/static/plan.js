// The plan as Python with a button that copies it, and as a file that is saved and opened.
function codeBox() {
  const code = h("code", { tabindex: 0, "aria-label": "Python that starts this run" });
  const copy = h("button", { type: "button", class: "fw-button fw-small", onclick: () => take() }, "copy");
  let timer = 0;
  async function take() {
    try { await navigator.clipboard.writeText(code.textContent); } catch { // not allowed here: select the code instead
      getSelection().selectAllChildren(code);
      return;
    }
    setText(copy, "copied");
    clearTimeout(timer);
    timer = setTimeout(setText, 1500, copy, "copy");
  }
  return {
    root: h("div", { class: "fw-plan-code" }, h("pre", {}, code), copy),
    update: (text) => setText(code, text),
    dispose: () => clearTimeout(timer),
  };
}

export default panel("plan", "Plan", (body, { send }) => {
  let state = {};
  let name = "";
  const button = (words, act, tip) => h("button", { type: "button", class: "fw-button fw-small", title: tip, onclick: act }, words);
  const box = codeBox();
  const file = combobox({ label: "file of the plan", choose: (value) => { name = value; } });
  const save = button("Save", () => send("save", { name }), "Writes the plan of the next run to this file.");
  const open = button("Open", () => send("open", { name }), "Replaces the plan of the next run with that of this file.");
  const replace = button("", () => send("save", { name: state.in_the_way, replace: true }), "Overwrites the file.");
  const undo = button("Undo", () => send("undo"), "Puts the plan back as it was before.");
  const picker = h("input", { type: "file", accept: ".json,application/json", hidden: true, onchange: () => upload() });
  const fromHere = button("Upload …", () => picker.click(), "Opens a plan from the computer that this browser runs on.");
  const toHere = button("Download", () => download(), "Saves the plan on the computer that this browser runs on.");
  const said = h("span", { role: "status" });
  const error = h("span", { class: "fw-plan-error", role: "alert" });
  const saved = h("div", { class: "fw-plan-files" },
    h("div", { class: "fw-head" }, file.root, save, open, toHere, fromHere, picker),
    h("p", { class: "fw-plan-said" }, error, said, replace, undo));
  const summary = h("span", { class: "fw-plan-summary", title: "compared with the default plan" });
  const code = fold(box.root, "show as Python", "hide Python");
  const store = fold(saved, "save or open", "hide files");
  store.root.addEventListener("click", () => { if (store.isOpen) send("list"); });
  body.append(h("div", { class: "fw-head" }, h("h3", {}, term("plan", "Plan")), summary, h("span", { class: "fw-plan-links" }, code.root, store.root)), box.root, saved);

  async function upload() {
    const [chosen] = picker.files;
    if (chosen) send("upload", { name: chosen.name, text: await chosen.slice(0, 1 << 20).text() });
    picker.value = "";
  }
  function download() {
    const link = h("a", { href: URL.createObjectURL(new Blob([state.json], { type: "application/json" })), download: name.split("/").pop() });
    link.click();
    URL.revokeObjectURL(link.href);
  }
  return {
    update(next) {
      if (next.name !== state.name) name = next.name;
      state = next;
      setText(summary, state.summary);
      box.update(state.code);
      file.update({ value: name, options: state.files.map((value) => ({ value, title: value, facts: "" })) });
      setText(said, state.said || (state.error ? "" : "Files are in the folder where this notebook runs."));
      setText(error, state.error);
      setText(replace, `Replace ${state.in_the_way}`);
      replace.hidden = !state.in_the_way;
      undo.hidden = !state.can_undo;
    },
    dispose() { box.dispose(); file.dispose(); },
  };
});
