// How to use a model: where it is, and the lines of Python that load it and ask it, each with a button that copies it.
function modelUses() {
  const root = h("div", { class: "fw-uses", role: "group", "aria-label": "how to use this model" });
  let shown = "";
  let timer = 0;
  async function copy(button, code) {
    try { await navigator.clipboard.writeText(code.textContent); } catch { // not allowed here: select the line instead
      getSelection().selectAllChildren(code);
      return;
    }
    setText(button, "copied");
    clearTimeout(timer);
    timer = setTimeout(setText, 1500, button, "copy");
  }
  function row({ title, line }) {
    const code = h("code", { class: "fw-code", tabindex: 0 }, line);
    const button = h("button", { type: "button", class: "fw-button fw-small", "aria-label": `copy: ${title}`, onclick: () => copy(button, code) }, "copy");
    return [h("span", {}, title), code, button];
  }
  return {
    root,
    update(uses) {
      const key = JSON.stringify(uses);
      if (key === shown) return;
      shown = key;
      root.replaceChildren(...uses.flatMap(row));
    },
    dispose: () => clearTimeout(timer),
  };
}
