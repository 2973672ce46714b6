// A field for a text, or a place for an image; below it the answers of the backbone and of the tuned model.
export default panel("try", "Try it", (body, { send, model }) => {
  const empty = h("p", { class: "fw-nothing" });
  const which = dropdown({ label: "tuned model", tip: "the model that answers beside the backbone",
    choose: (value) => send("choose", { which: value }) });
  const step = h("input", { class: "fw-input fw-number", type: "text", inputmode: "numeric", "aria-label": "step of the tuned model",
    autocomplete: "off", onchange: () => send("choose", { which: "step", step: typed(step.value) ?? 0 }) });
  const text = h("textarea", { class: "fw-input fw-try-text", rows: 2, spellcheck: "false", "data-lm-suppress-shortcuts": "true", oninput: () => mark(),
    onkeydown: (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); event.stopPropagation(); ask(); } } });
  const button = h("button", { type: "button", class: "fw-button fw-primary", onclick: () => ask() });
  const file = h("input", { type: "file", accept: "image/*", hidden: true, onchange: () => { post(file.files[0]); file.value = ""; } });
  const drop = h("div", { class: "fw-try-drop" }, h("span", {}, "Drop an image here, or"),
    h("button", { type: "button", class: "fw-button", onclick: () => file.click() }, "Choose an image"), file);
  const doing = h("span", { class: "fw-doing", role: "status" });
  const examples = h("div", { class: "fw-try-examples", role: "group", "aria-label": "examples from the held-out rows" });
  const list = h("ol", { class: "fw-try-list", "aria-label": "what was tried, newest first" });
  const line = h("div", { class: "fw-try-line" }, text, button);
  const form = h("div", { class: "fw-try-form" }, line, drop, examples);
  const state = { limit: 0, busy: false };
  body.append(h("div", { class: "fw-head" }, h("h3", {}, "Try it"), which.root, step, doing), empty, form, list);

  function ask() {
    if (state.busy || text.value.trim() === "") return text.focus();
    wait();
    send("ask", { text: text.value });
  }

  function mark() { // an empty text can't be asked
    const isEmpty = text.value.trim() === "";
    button.disabled = state.busy || isEmpty;
    button.title = isEmpty ? "Type a text first" : "Ctrl+Enter";
  }

  // The bytes of the file travel as they are; a file that is too large stays here, and the kernel says so.
  async function post(chosen) {
    if (!chosen || state.busy) return;
    wait();
    const message = { do: "picture", id: freshId(), name: chosen.name, size: chosen.size };
    model.send(message, undefined, chosen.size > state.limit ? [] : [await chosen.arrayBuffer()]);
  }

  function wait() { // at once, before the kernel has answered
    setText(doing, "asking …");
    button.disabled = true;
  }

  for (const name of ["dragenter", "dragover"]) {
    drop.addEventListener(name, (event) => { event.preventDefault(); drop.classList.add("fw-over"); });
  }
  drop.addEventListener("dragleave", () => drop.classList.remove("fw-over"));
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    event.stopPropagation();
    drop.classList.remove("fw-over");
    post(event.dataTransfer.files[0]);
  });

  const content = (cell) => (cell.image ? h("img", { src: cell.image, alt: "a picture" }) : h("span", { class: "fw-try-words" }, cell.text));
  function answer(title, found, note = "") {
    const box = h("div", { class: "fw-try-answer" }, h("div", { class: "fw-try-who" }, title));
    if (!found) box.append(h("p", { class: "fw-nothing" }, "asking …"));
    else if (found.bars) box.append(...bars(found));
    else box.append(h("p", { class: "fw-try-completion" }, found.text || "(nothing)"));
    if (note) box.append(h("p", { class: "fw-try-note" }, note));
    return box;
  }
  function bars({ bars: rows, others }) {
    const all = rows.map(({ name, share, words }) => h("div", { class: "fw-try-bar", role: "listitem" },
      h("span", { class: "fw-try-name", title: name }, name),
      h("span", { class: "fw-try-track", "aria-hidden": "true" }, h("span", { class: "fw-try-fill", style: `width:${100 * share}%` })),
      h("span", { class: "fw-try-share" }, words)));
    const rest = others ? [h("p", { class: "fw-try-note" }, `and ${others} other class${others > 1 ? "es" : ""}`)] : [];
    return [h("div", { role: "list" }, all), ...rest];
  }
  const entry = (tried) => h("li", { class: "fw-try-entry" },
    tried.origin ? h("p", { class: "fw-try-note" }, tried.origin) : null,
    h("div", { class: "fw-try-input" }, content(tried.input)),
    h("div", { class: "fw-try-answers" }, answer("backbone, before training", tried.base, tried.note), answer(tried.model, tried.tuned)));

  let chips = "";
  let tried = "";
  const words = { text: ["Type a text", "Classify"], prompt: ["Type the start of a text", "Complete"], image: ["", ""] };
  return {
    update(next) {
      const isImage = next.kind === "image";
      Object.assign(state, { limit: next.largest, busy: next.doing !== "" });
      setText(empty, next.empty);
      empty.hidden = next.empty === "";
      form.hidden = which.root.hidden = next.kind === "";
      step.hidden = next.kind === "" || next.which !== "step";
      line.hidden = isImage;
      drop.hidden = !isImage;
      setAttribute(text, "placeholder", words[next.kind]?.[0]);
      setAttribute(text, "aria-label", words[next.kind]?.[0]);
      setText(button, words[next.kind]?.[1] ?? "");
      mark();
      setText(doing, next.doing);
      which.update(next.which, next.models);
      if (document.activeElement !== step) step.value = asTyped(next.step);
      const offered = JSON.stringify(next.examples);
      if (offered !== chips) {
        chips = offered;
        examples.replaceChildren(...(next.examples.length ? [h("span", {}, "for example")] : []), ...next.examples.map((cell, index) =>
          h("button", { type: "button", class: "fw-chip", title: cell.text ?? "a held-out picture",
            onclick: () => { if (!state.busy) { if (cell.text) text.value = cell.text; wait(); send("example", { index }); } } }, content(cell))));
      }
      const all = JSON.stringify(next.entries);
      if (all !== tried) list.replaceChildren(...next.entries.map(entry));
      tried = all;
    },
  };
});
