// The network as a row of blocks from input to output, wrapped if it is long. A click on a block freezes or unfreezes it.
// The presets choose which layers are trainable, and the switch chooses how: their own weights, or LoRA adapters.
const PRESETS = [["head", "head only"], ["last", "last", "blocks"], ["all", "all layers"]];
const TIPS = { head: meaning("head"), last: meaning("block"), all: meaning("fine-tuning") };
const MOVED = "How far the weights of a block have moved: the norm of their change, in % of the norm they started with.";
const LORA = "Off: the trainable blocks change their own weights. On: their weights stay frozen, and small adapters beside them are trained. Takes effect at the next run.";

function snowflake(x, y, r) {
  const arms = [0, 60, 120].map((turn) => {
    const [dx, dy] = [Math.cos((turn * Math.PI) / 180) * r, Math.sin((turn * Math.PI) / 180) * r];
    return `M${x - dx} ${y - dy}L${x + dx} ${y + dy}`;
  });
  return s("path", { class: "fw-flake", d: arms.join("") });
}

const CLICK = "click to switch";

const short = (name) => ({ embeddings: "embed" })[name] ?? name.replace(/^block /, "");

const STRIP = 18; // height in pixels of the strip below each block: how far it has moved, or when it is unfrozen

// Shortens "step 1,200" to "1,200", and anything else to nothing, where there is no room.
const fit = (words, room) => [words, words.replace(/^(step|since) /, "")].find((said) => 6 * said.length <= room) ?? "";

// Returns the position of each block as [x, y, width, height], and the total height.
function layout(blocks, room) {
  const isDense = blocks.length > 14;
  const gap = isDense ? 5 : 8;
  const most = Math.max(...blocks.map((block) => block.size), 1);
  const tall = isDense ? 38 : 56;
  let x = 1;
  let y = 2;
  const places = blocks.map((block) => {
    const width = block.kind !== "block" ? 58 : isDense ? 30 : 44;
    const height = tall - (isDense ? 6 : 16) * (1 - Math.sqrt(block.size / most));
    if (x + width > room - 1 && x > 1) { x = 1; y += tall + STRIP; }
    const place = [x, y + (tall - height) / 2, width, height];
    x += width + gap;
    return place;
  });
  return { places, height: y + tall + STRIP, isDense, tall };
}

export default panel("freeze", "Layers", (body, { send }) => {
  const hatch = freshId();
  const pressed = {};
  const marks = []; // one at each preset
  const number = (label, high, change) => h("input", { class: "fw-input fw-small-number", type: "number", min: 1, max: high,
    step: 1, "aria-label": label, onchange: (event) => change(typed(event.target.value)) });
  const lastN = number("number of last blocks that train", 999, (value) => send("preset", { name: "last", number: value }));
  const presets = h("div", { class: "fw-presets", role: "group", "aria-label": "which layers are trainable" },
    PRESETS.map(([name, words, after]) => {
      pressed[name] = h("button", { type: "button", class: "fw-button fw-choice", "aria-pressed": "false",
        "aria-label": after ? "last blocks" : null, title: TIPS[name], onclick: () => send("preset", { name }) }, words);
      marks.push(liveMark());
      pressed[name].prepend(marks.at(-1));
      return h("span", { class: after ? "fw-preset fw-joined" : "fw-preset" }, pressed[name], after && [lastN, h("span", { class: "fw-after" }, after)]);
    }));
  const rank = number("LoRA rank", 512, (value) => send("rank", { number: value }));
  const lora = h("input", { type: "checkbox", role: "switch", onchange: () => send("lora", { is_on: lora.checked }) });
  const how = h("div", { class: "fw-how", role: "group", "aria-label": "how the layers are trained" },
    h("label", { title: `${LORA} ${meaning("LoRA")}` }, lora, h("span", { class: "fw-explained" }, "LoRA")), h("label", { title: "Rank of the LoRA adapters: more, and they can learn more and need more memory." }, h("span", { class: "fw-explained" }, "rank"), rank));
  const cells = s("g", {});
  const svg = s("svg", { role: "group", "aria-label": "blocks of the network, from input to output", class: "fw-network" },
    s("defs", {}, s("pattern", { id: hatch, width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
      s("rect", { width: 6, height: 6, class: "fw-hatch-ground" }), s("line", { x1: 0, y1: 0, x2: 0, y2: 6, class: "fw-hatch-line" }))),
    cells);
  const waiting = h("p", { class: "fw-nothing" });
  const skeleton = h("div", { class: "fw-skeleton", "aria-hidden": "true" });
  const box = h("div", { class: "fw-network-box" }, svg, skeleton, waiting);
  const counts = h("b", {});
  const key = (kind, words) => h("span", {}, h("i", { class: `fw-swatch fw-swatch-${kind}` }), words);
  const adapterKey = key("adapter", term("LoRA", "LoRA adapter"));
  const movedKey = key("moved", "moved, % of starting weights");
  setAttribute(movedKey, "title", MOVED);
  const keys = h("div", { class: "fw-keys" }, key("trainable", term("trainable")), key("frozen", term("frozen")), adapterKey, movedKey);
  const line = h("div", { class: "fw-freeze-line" }, h("span", {}, "trainable ", counts), how);
  const error = h("span", { class: "fw-field-error", role: "alert" }); // takes the place of the line about the cache, so that nothing moves
  const verified = h("span", { class: "fw-verified" });
  const broken = h("p", { class: "fw-broken", role: "alert" });
  const effect = h("span", { class: "fw-effect", role: "status" });
  const cached = h("span", { class: "fw-cached" });
  const schedule = h("p", { class: "fw-schedule", role: "status" });
  const proof = h("div", { class: "fw-freeze-line fw-proof" }, error, verified, cached, effect);
  const notes = noteList();
  body.append(h("div", { class: "fw-head" }, h("h3", {}, term("block", "Layers")), presets), box, line, keys, schedule, proof, broken, notes.root);

  let blocks = [];
  let isLive = false; // whether a click also changes the run under way
  let refusals = 0;
  let drawn = "";
  let nodes = [];

  function build(room) {
    const { places, height, isDense, tall } = layout(blocks, room);
    const hadFocus = nodes.findIndex((node) => node.group === document.activeElement);
    setAttribute(svg, "width", room);
    setAttribute(svg, "height", height);
    const links = places.slice(1).flatMap(([x, y, , own], index) => {
      const [left, top, width, high] = places[index];
      return x > left ? [s("line", { class: "fw-link", x1: left + width, x2: x, y1: top + high / 2, y2: y + own / 2 })] : [];
    });
    nodes = blocks.map((block, index) => cell(block, index, places[index], isDense, tall));
    cells.replaceChildren(...links, ...nodes.map((node) => node.group));
    if (hadFocus >= 0) nodes[hadFocus]?.group.focus();
  }

  function cell(block, index, [x, y, width, height], isDense, tall) {
    const rect = s("rect", { x, y, width, height, rx: 5 });
    const adapter = s("rect", { class: "fw-adapter", x: x + width - 5, y: y + 3, width: 3, height: height - 6, rx: 2 });
    const flake = snowflake(x + width / 2, y + (isDense ? 9 : 10), isDense ? 3.5 : 4);
    const hint = s("title", {});
    const under = y + height / 2 + tall / 2; // all strips are at the same height, whatever the heights of the blocks
    const track = s("rect", { class: "fw-moved-track", x, y: under + 2, width, height: 2 });
    const bar = s("rect", { class: "fw-moved-bar", x, y: under + 2, height: 2, width: 0 });
    const moved = s("text", { class: "fw-moved", x: x + width / 2, y: under + 13 });
    const turn = s("text", { class: "fw-turn", y: y + (isDense ? 12 : 13) });
    const words = s("g", {}, s("text", { x: x + width / 2, y: y + height / 2 + (isDense ? 10 : 5), class: "fw-block-name" }, short(block.name)),
      isDense ? null : s("text", { x: x + width / 2, y: y + height - 6, class: "fw-block-size" }, block.size_words));
    const group = s("g", { role: "switch", class: "fw-block", tabindex: index === 0 ? 0 : -1,
      onclick: () => { rove(index); send("toggle", { name: block.name }); },
      onkeydown: (event) => onKey(event, index, block.name) },
      hint, rect, adapter, flake, words);
    const live = s("circle", { class: "fw-live-block", cx: x + 3, cy: y + 3, r: 4.5 });
    group.append(track, bar, moved, turn, live);
    return { group, live, rect, adapter, flake, words, hint, track, bar, moved, turn, x, width, isDense };
  }

  function rove(index) {
    nodes.forEach((node, place) => node.group.setAttribute("tabindex", place === index ? 0 : -1));
    nodes[index].group.focus();
  }

  function onKey(event, index, name) {
    const to = { ArrowLeft: index - 1, ArrowUp: index - 1, ArrowRight: index + 1, ArrowDown: index + 1, Home: 0, End: nodes.length - 1 }[event.key];
    if (to !== undefined) rove(Math.max(0, Math.min(nodes.length - 1, to)));
    else if (event.key === " " || event.key === "Enter") send("toggle", { name });
    else return;
    event.preventDefault();
  }

  function paint() {
    nodes.forEach(({ group, live, rect, adapter, flake, words: inside, hint, track, bar, moved, turn, x, width, isDense }, index) => {
      const block = blocks[index];
      const frozen = block.has_no_adapter ? "frozen, since LoRA has no adapters for it" : "frozen";
      const state = block.has_adapter ? "frozen, LoRA adapters train" : block.is_trainable ? "trainable" : frozen;
      const kind = block.has_adapter ? "adapter" : block.is_trainable ? "trainable" : "frozen";
      setAttribute(group, "aria-checked", String(block.is_trainable));
      const far = block.moved ? `moved by ${block.moved.words}` : "";
      const { turn: place = "", when = "", since = "", words = "" } = block.turn ?? {};
      setAttribute(group, "aria-label", [block.name, state, words, `${block.size_words} parameters`, far].filter(Boolean).join(", "));
      setAttribute(group, "data-kind", kind);
      setAttribute(group, "aria-description", isLive ? LIVE : null);
      setAttribute(live, "visibility", isLive ? "visible" : "hidden");
      setText(hint, [block.name, state, words, `${block.size_words} parameters`, far && `${far}${block.moved.unit}`, isLive ? `${CLICK}; this ${LIVE}` : CLICK].filter(Boolean).join(" · "));
      for (const node of [track, bar]) setAttribute(node, "visibility", far ? "visible" : "hidden");
      const isWaiting = when !== "" && !block.moved?.part;
      setText(moved, isWaiting ? fit(when, width + (isDense ? 2 : 6)) : block.moved?.words.replace(" ", isDense ? "" : "\u2009") ?? "");
      moved.classList.toggle("fw-when", isWaiting);
      setAttribute(bar, "width", width * (block.moved?.part ?? 0));
      setAttribute(rect, "fill", kind === "trainable" ? null : `url(#${hatch})`);
      setAttribute(adapter, "visibility", block.has_adapter ? "visible" : "hidden");
      setAttribute(inside, "transform", block.has_adapter ? "translate(-2.5)" : null); // beside the adapter
      const hasFlake = !block.is_trainable || block.has_adapter;
      setAttribute(flake, "visibility", hasFlake && !(place && isDense) ? "visible" : "hidden");
      setAttribute(flake, "transform", place ? "translate(-12)" : null); // makes room for the turn
      setText(turn, since ? (isDense ? "" : fit(since, width + 4)) : place);
      setAttribute(turn, "x", x + width / 2 + (hasFlake && place && !isDense ? 6 : 0));
    });
  }

  function draw() {
    const room = box.clientWidth;
    const names = JSON.stringify([room, blocks.map((block) => [block.name, block.size])]);
    if (room > 60 && blocks.length && names !== drawn) { drawn = names; build(room); }
    if (blocks.length) paint();
  }

  const watcher = new ResizeObserver(draw);
  watcher.observe(box);
  return {
    update(state) {
      blocks = state.blocks;
      isLive = state.is_live;
      for (const mark of marks) {
        mark.hidden = !isLive;
        setAttribute(mark.parentElement, "aria-description", isLive ? LIVE : null);
      }
      svg.style.display = blocks.length ? "" : "none";
      skeleton.hidden = !state.doing;
      skeleton.classList.toggle("fw-dense", state.outline > 14);
      if (skeleton.children.length !== state.outline) skeleton.replaceChildren(...Array.from({ length: state.outline }, () => h("i")));
      waiting.hidden = blocks.length > 0;
      setText(waiting, state.doing || "The blocks appear here when the backbone and the data are loaded.");
      setAttribute(body, "aria-busy", String(state.doing !== ""));
      setText(counts, state.counts || "–");
      setAttribute(svg, "data-dense", String(blocks.length > 14));
      for (const [name] of PRESETS) setAttribute(pressed[name], "aria-pressed", String(name === state.preset));
      for (const [input, value] of [[lastN, state.last_n], [rank, state.lora_rank]]) {
        if (document.activeElement !== input || state.refusals !== refusals) input.value = value;
      }
      refusals = state.refusals;
      lora.checked = state.is_lora;
      rank.disabled = !state.is_lora;
      notes.update(state.notes);
      adapterKey.hidden = !blocks.some((block) => block.has_adapter);
      movedKey.style.visibility = blocks.some((block) => block.moved) ? "" : "hidden"; // hidden without a change of the layout
      setText(verified, state.verified ? `✓ ${state.verified}` : "");
      setText(error, state.error);
      cached.hidden = (state.error || state.effect) !== ""; // what was just asked for is more important
      setText(cached, state.cached);
      setAttribute(cached, "title", state.cached_tip);
      setText(schedule, state.schedule);
      setText(broken, state.broken);
      setText(effect, state.effect);
      draw();
    },
    dispose: () => watcher.disconnect(),
  };
});
