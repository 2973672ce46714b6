// Fields that several panels use: the combobox, the drop-down, and the list of notes.

// A field with a list of options that also accepts any text. Each option is {value, title, facts}.
function combobox({ label, choose }) {
  const list = freshId();
  const id = freshId();
  let options = [];
  let value = "";
  let active = -1;
  let isTyping = false;
  const input = h("input", {
    id, class: "fw-input", type: "text", role: "combobox", "aria-controls": list, "aria-expanded": "false",
    "aria-autocomplete": "list", autocomplete: "off", spellcheck: "false",
    oninput: () => { isTyping = true; open(); },
    onclick: () => (isOpen() ? null : open()),
    onkeydown: (event) => onKey(event),
    onblur: () => { close(); commit(input.value); },
  });
  const arrow = h("span", { class: "fw-arrow", "aria-hidden": "true" });
  const popup = h("ul", { id: list, class: "fw-popup", role: "listbox", "aria-label": label, popover: "manual" });
  const root = h("div", { class: "fw-field fw-combo" }, h("label", { for: id }, label),
    h("span", { class: "fw-combo-box" }, input, arrow, popup));

  const isOpen = () => input.getAttribute("aria-expanded") === "true";
  const shown = () => {
    const words = input.value.trim().toLowerCase();
    if (!isTyping || words === "") return options;
    return options.filter((option) => `${option.value} ${option.title} ${option.facts}`.toLowerCase().includes(words));
  };
  function open() {
    const rows = shown();
    if (rows.length === 0) return close();
    active = -1;
    popup.replaceChildren(...rows.map((option, index) => h("li", {
      id: `${list}-${index}`, role: "option", "aria-selected": String(option.value === value),
      onmousedown: (event) => { event.preventDefault(); pick(option); },
    }, h("span", {}, option.title), h("small", {}, option.facts))));
    const place = input.getBoundingClientRect();
    const room = window.innerHeight - place.bottom - 8;
    const above = room < 160 && place.top > room;
    Object.assign(popup.style, {
      left: `${place.left}px`, width: `${Math.max(place.width, 300)}px`,
      top: above ? "auto" : `${place.bottom + 2}px`, bottom: above ? `${window.innerHeight - place.top + 2}px` : "auto",
      maxHeight: `${Math.min(320, Math.max(room, place.top) - 8)}px`,
    });
    if (!popup.matches(":popover-open")) popup.showPopover?.();
    input.setAttribute("aria-expanded", "true");
  }
  function close() {
    if (isOpen()) popup.hidePopover?.();
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
    isTyping = false;
  }
  function pick(option) {
    input.value = option.value;
    close();
    commit(option.value);
  }
  function commit(text) {
    const wanted = text.trim();
    if (wanted === "") input.value = value;
    else if (wanted !== value) { value = wanted; choose(wanted); }
  }
  function move(by) {
    if (!isOpen()) return open();
    const rows = [...popup.children];
    active = (active + by + rows.length) % rows.length;
    rows.forEach((row, index) => row.classList.toggle("fw-active", index === active));
    rows[active].scrollIntoView({ block: "nearest" });
    input.setAttribute("aria-activedescendant", rows[active].id);
  }
  function onKey(event) {
    if (event.key === "ArrowDown") move(1);
    else if (event.key === "ArrowUp") move(active < 0 ? 0 : -1);
    else if (event.key === "Escape") { input.value = value; close(); }
    else if (event.key === "Enter") {
      const option = isOpen() && active >= 0 ? shown()[active] : null;
      if (option) pick(option);
      else { close(); commit(input.value); }
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }
  const onScroll = (event) => { if (!popup.contains(event.target)) close(); };
  window.addEventListener("scroll", onScroll, true);
  return {
    root,
    update(next) {
      options = next.options;
      value = next.value;
      if (document.activeElement !== input || !isTyping) input.value = next.value;
      setAttribute(input, "title", next.value);
    },
    dispose: () => window.removeEventListener("scroll", onScroll, true),
  };
}

// A button that shows and hides a node.
function fold(node, more, less) {
  node.id ||= freshId();
  const button = h("button", { type: "button", class: "fw-link-button", "aria-controls": node.id, onclick: () => show(!isOpen) });
  let isOpen = false;
  const show = (open) => {
    isOpen = open;
    node.hidden = !open;
    setAttribute(button, "aria-expanded", String(open));
    setText(button, open ? less : more);
  };
  show(false);
  return { root: button, get isOpen() { return isOpen; } };
}

// Notes for the user: the first one in a line, the others after a click. Their line is kept free while they are awaited.
function noteList() {
  const root = h("details", { class: "fw-notes", hidden: true });
  let shown = "";
  return {
    root,
    update(notes, areAwaited = false) {
      const key = JSON.stringify([notes, areAwaited]);
      if (key === shown) return;
      shown = key;
      const [first, ...rest] = notes;
      root.hidden = notes.length === 0 && !areAwaited;
      root.classList.toggle("fw-single", rest.length === 0);
      root.style.visibility = notes.length === 0 ? "hidden" : "";
      root.replaceChildren(h("summary", {}, rest.length ? `${first} (+ ${rest.length})` : first ?? ""), ...rest.map((note) => h("div", {}, note)));
    },
  };
}

// A word about a value, with its reason as a tooltip.
const badge = (word, reason) => h("span", { class: "fw-badge", title: reason }, word, h("span", { class: "fw-spoken" }, reason));

// A drop-down list; each option is {value, title}. A badge is [word, reason].
function dropdown({ label, choose, tip, badge: about }) {
  const id = freshId();
  const mark = about ? badge(...about) : null;
  if (mark) mark.id = `${id}-badge`;
  const select = h("select", { id, class: "fw-input", title: tip, "aria-describedby": mark?.id, onchange: () => choose(select.value) });
  let shown = "";
  return {
    root: h("div", { class: "fw-field" }, h("label", { for: id, title: tip }, label), select, mark),
    update(value, options) {
      const key = JSON.stringify(options);
      if (key !== shown) {
        shown = key;
        select.replaceChildren(...options.map((option) => h("option", { value: option.value }, option.title)));
      }
      if (document.activeElement !== select || select.value !== value) select.value = value;
    },
  };
}
