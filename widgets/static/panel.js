// Shared by all panels: creating elements, drawing the kernel's `state`, and sending actions to the kernel.
// Text reaches the page through text nodes and attributes only; nothing is ever parsed as HTML.

const SVG = "http://www.w3.org/2000/svg";
let lastId = 0;

function furnish(node, props, children) {
  for (const [key, value] of Object.entries(props ?? {})) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else setAttribute(node, key, value);
  }
  node.append(...children.flat().filter((child) => child != null && child !== false));
  return node;
}

function setAttribute(node, key, value) {
  if (value === false || value == null) node.removeAttribute(key);
  else if (node.getAttribute(key) !== String(value)) node.setAttribute(key, value === true ? "" : value);
}

const h = (tag, props, ...children) => furnish(document.createElement(tag), props, children);
const s = (tag, props, ...children) => furnish(document.createElementNS(SVG, tag), props, children);
const freshId = () => `fw-${Math.random().toString(36).slice(2, 8)}-${++lastId}`;

function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

// Formats a number for reading, as Python does: 32, 0.0005, 5e-5, 1,234.
function inWords(value, digits = 4) {
  if (value == null) return "";
  if (!Number.isFinite(value)) return String(value);
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-4 || size >= 1e7)) {
    return value.toExponential(digits - 1).replace(/\.?0+e/, "e").replace("e+", "e");
  }
  if (Number.isInteger(value)) return value.toLocaleString("en-US");
  return String(Number(value.toPrecision(digits)));
}

// Formats a number for an input field: without thousands separators.
const asTyped = (value) => (typeof value === "number" ? inWords(value, 6).replaceAll(",", "") : (value ?? ""));

// Parses input as a number; other text is sent unchanged, and the kernel reports the error.
function typed(text) {
  const trimmed = text.trim();
  if (trimmed === "") return null;
  const number = Number(trimmed.replace(",", "."));
  return Number.isNaN(number) ? trimmed : number;
}

// What a word of the glossary means, for a tooltip.
const meaning = (word) => GLOSSARY[word];

// A word of the glossary: what it means shows while the mouse is over it or it has the focus.
function term(word, text = word) {
  let shown = null;
  const hide = () => { shown?.remove(); shown = null; };
  const show = () => {
    for (const other of document.querySelectorAll(".fw-meaning")) other.remove();
    shown = h("span", { class: "fw-meaning", role: "tooltip", popover: "manual" }, GLOSSARY[word]);
    root.closest(".fw-panel").append(shown);
    shown.showPopover?.();
    const place = root.getBoundingClientRect();
    const below = place.bottom + shown.offsetHeight + 8 < window.innerHeight;
    shown.style.left = `${Math.max(8, Math.min(place.left, window.innerWidth - shown.offsetWidth - 8))}px`;
    shown.style.top = `${below ? place.bottom + 4 : place.top - shown.offsetHeight - 4}px`;
  };
  const root = h("button", {
    type: "button", class: "fw-term", "aria-description": GLOSSARY[word], onmouseenter: show, onmouseleave: hide, onfocus: show, onblur: hide,
    onclick: show, onkeydown: (event) => { event.key === "Escape" ? hide() : event.key === "Enter" && event.stopPropagation(); },
  }, text);
  return root;
}

// Sets a text in which some words are terms; `words` has a function for each that returns its term.
function setTerms(node, text, words) {
  if (node.dataset.text === text) return;
  node.dataset.text = text;
  if (node.matches(":hover, :focus-within")) document.querySelector(".fw-meaning")?.remove(); // its word goes away
  const parts = text.split(new RegExp(`\\b(${Object.keys(words).join("|")})\\b`));
  node.replaceChildren(...parts.map((part) => words[part]?.() ?? part));
}

// Marks what also changes the run under way: the same mark in every panel, and its words at "Next run".
const LIVE = "also changes the live run from its next step";
const liveMark = () => h("i", { class: "fw-live", "aria-hidden": "true", title: LIVE, hidden: true });

function problemBox(send) {
  const box = h("div", { class: "fw-problem", role: "alert" });
  let shown = "";
  const update = (problem) => {
    const key = JSON.stringify(problem ?? null);
    if (key === shown) return;
    shown = key;
    box.replaceChildren();
    if (!problem) return;
    box.append(
      h("button", { class: "fw-dismiss", type: "button", "aria-label": "dismiss", onclick: () => send("dismiss") }, "×"),
      h("p", { class: "fw-what" }, problem.what),
    );
    if (problem.hint) box.append(h("p", {}, h("b", {}, problem.hint.startsWith("Did you mean") ? "" : "Try: "), problem.hint));
    if (problem.details) {
      box.append(h("details", {}, h("summary", {}, "details"), h("pre", { tabindex: 0 }, problem.details)));
    }
  };
  return { box, update };
}

// Keeps keys that are pressed in a panel from the notebook, so that arrows move sliders and not cells. Ctrl+S etc. pass.
function keepKey(event) {
  if (!event.ctrlKey && !event.metaKey && !event.altKey) event.stopPropagation();
}

// Sends an action repeatedly until the kernel acknowledges it, because a message can get lost just after a reload. The
// kernel acts on the first copy only. If there is no answer for long, the panel says so. `settled` is called when the
// kernel has acted and the panel shows what came of it: with the next state, or soon if the state remains the same.
function messenger(model) {
  const waiting = new Map(); // id -> { message, settled, tries, timer }
  const answered = new Map(); // settled -> timer
  const silence = h("p", { class: "fw-silence", role: "status" });
  const post = (id) => {
    const entry = waiting.get(id);
    try { model.send(entry.message); } catch { /* no connection: sent again like a lost message */ }
    if (++entry.tries > 4) setText(silence, "No answer from the kernel: it is busy, or it was restarted. If it was restarted, run this cell again.");
    entry.timer = setTimeout(post, Math.min(800 * entry.tries, 8000), id);
  };
  const hear = ({ heard }) => {
    if (!waiting.has(heard)) return;
    const { settled, timer } = waiting.get(heard);
    clearTimeout(timer);
    waiting.delete(heard);
    setText(silence, "");
    if (settled) answered.set(settled, setTimeout(settle, 600, settled));
  };
  const settle = (settled) => {
    clearTimeout(answered.get(settled));
    answered.delete(settled);
    settled();
  };
  const settleAll = () => [...answered.keys()].forEach(settle);
  model.on("msg:custom", hear);
  return {
    silence,
    settleAll,
    send(action, args, settled) {
      const id = freshId();
      waiting.set(id, { message: { do: action, id, ...args }, settled, tries: 0, timer: 0 });
      post(id);
    },
    dispose() {
      model.off("msg:custom", hear);
      for (const timer of [...[...waiting.values()].map((entry) => entry.timer), ...answered.values()]) clearTimeout(timer);
    },
  };
}

// Says that the kernel no longer knows the panel, which is so after a restart; its controls are then out of use.
function connection(model, body, lost) {
  const words = h("p", { class: "fw-lost", role: "status" });
  const look = function () { // called with the view, which alone knows the model with its connection
    const isLost = this?.model?.comm_live === false;
    setText(words, isLost ? `The kernel was restarted, so this panel is out of use. Run its cell again. ${lost() ?? ""}` : "");
    body.inert = isLost;
    if (isLost) for (const node of body.querySelectorAll("button, input, select, textarea")) node.disabled = true;
    body.parentElement.classList.toggle("fw-is-lost", isLost);
  };
  model.on("comm_live_update", look);
  return { words, dispose: () => model.off("comm_live_update", look) };
}

// Returns the anywidget module of a panel. build(root, {send, model}) returns {update(state),
// dispose?, lost?}; lost() returns what else to say if the connection to the kernel is lost.
function panel(name, title, build) {
  const render = ({ model, el }) => {
    const viewer = freshId();
    const { send, silence, settleAll, dispose } = messenger(model);
    const root = h("section", { class: `fw-panel fw-${name}`, "aria-label": title, onkeydown: keepKey });
    const problem = problemBox(send);
    const body = h("div", { class: "fw-body" });
    const { words: lost, dispose: disconnect } = connection(model, body, () => view.lost?.());
    root.append(lost, body, problem.box, silence);
    const view = build(body, { send, model, title });
    const update = () => {
      const state = model.get("state");
      if (!state || Object.keys(state).length === 0) return;
      view.update(state);
      problem.update(state.problem);
      settleAll();
    };
    model.on("change:state", update);
    el.classList.add("fw-host");
    el.append(root);
    update();
    send("seen", { viewer });
    return () => {
      model.off("change:state", update);
      view.dispose?.();
      dispose();
      disconnect();
      model.send({ do: "gone", viewer });
    };
  };
  return { render };
}
