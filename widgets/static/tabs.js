// A row of tabs. It is a sibling of the panels, and shows the one that was chosen.
function render({ model, el }) {
  const prefix = freshId();
  const bar = h("div", { class: "fw-tab-bar", role: "tablist", "aria-label": "what is shown", onkeydown: onKey });
  const root = h("div", { class: "fw-panel fw-tab-row", onkeydown: keepKey }, bar);
  el.classList.add("fw-host");
  el.append(root);

  const titles = () => model.get("titles");
  const choose = (title) => {
    model.set("chosen", title);
    model.save_changes();
  };

  function draw() {
    const [chosen, dots] = [model.get("chosen"), model.get("dots")];
    const tabs = titles();
    while (bar.children.length < tabs.length) bar.append(tab(bar.children.length));
    tabs.forEach((title, i) => {
      const node = bar.children[i];
      setText(node.firstChild, title);
      setText(node.lastChild, dots[title] ? ` (new: ${dots[title]})` : "");
      setAttribute(node, "title", dots[title]);
      node.classList.toggle("fw-has-dot", Boolean(dots[title]));
      setAttribute(node, "aria-selected", String(title === chosen));
      setAttribute(node, "tabindex", title === chosen ? 0 : -1);
    });
    show(tabs.indexOf(chosen));
  }

  function tab(i) {
    return h("button", { type: "button", class: "fw-tab", role: "tab", id: `${prefix}-tab-${i}`, "aria-controls": `${prefix}-page-${i}`,
      onclick: () => choose(titles()[i]) }, h("span", {}), h("span", { class: "fw-spoken" }));
  }

  // The panels arrive one after the other, and may arrive after the bar.
  function show(chosen) {
    const pages = el.parentElement?.querySelectorAll(":scope > .fw-tab-page") ?? [];
    pages.forEach((page, i) => {
      setAttribute(page, "role", "tabpanel");
      setAttribute(page, "id", `${prefix}-page-${i}`);
      setAttribute(page, "aria-labelledby", `${prefix}-tab-${i}`);
      page.classList.toggle("fw-tab-hidden", i !== chosen);
    });
  }

  function onKey(event) {
    const tabs = titles();
    const at = tabs.indexOf(model.get("chosen"));
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: tabs.length - 1 }[event.key];
    if (to == null) return;
    event.preventDefault();
    const next = (to + tabs.length) % tabs.length;
    choose(tabs[next]);
    bar.children[next].focus();
  }

  const arrivals = new MutationObserver(draw);
  const attached = new ResizeObserver(() => { // the bar has a parent from its first size on
    if (el.parentElement) arrivals.observe(el.parentElement, { childList: true });
    draw();
  });
  attached.observe(el);
  const names = ["change:titles", "change:chosen", "change:dots"];
  for (const name of names) model.on(name, draw);
  draw();
  return () => {
    for (const name of names) model.off(name, draw);
    arrivals.disconnect();
    attached.disconnect();
  };
}

export default { render };
