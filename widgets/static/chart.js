// An SVG chart: axes with round ticks, lines, horizontal levels and dots.
const EDGE = { left: 52, right: 14, top: 10, bottom: 24 };

// Returns about `wanted` ticks at a distance of 1, 2 or 5 times a power of ten.
function tickStep(low, high, wanted) {
  const rough = (high - low) / wanted || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 5, 10].find((factor) => factor * power >= rough * 0.999) * power;
}

function linearTicks(low, high, wanted) {
  const step = tickStep(low, high, wanted);
  const ticks = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) ticks.push(Number((i * step).toPrecision(12)));
  return ticks;
}

function logTicks(low, high) {
  const ticks = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) {
    for (const factor of [1, 2, 5]) ticks.push(factor * 10 ** power);
  }
  const inside = ticks.filter((tick) => tick >= low * 0.999 && tick <= high * 1.001);
  return inside.length >= 2 ? inside : linearTicks(low, high, 4).filter((tick) => tick > 0);
}

function span(values, isLog, wanted, limits) {
  const usable = values.filter((value) => Number.isFinite(value) && (!isLog || value > 0));
  if (usable.length === 0) return isLog ? [0.1, 1] : [0, 1];
  let low = Math.min(...usable);
  let high = Math.max(...usable);
  if (isLog) return low === high ? [low / 1.5, high * 1.5] : [low / 1.06, high * 1.06];
  const pad = Math.max((high - low || Math.abs(high) || 1) * 0.06, Math.abs(high) * 0.005); // at least a hundredth, for ticks that differ
  low -= pad;
  high += pad;
  for (let i = 0; i < 2; i++) { // round to ticks, so that the axis rarely moves while points arrive; twice, since a wider range has coarser ticks
    const step = tickStep(low, high, wanted);
    [low, high] = [Math.floor(low / step + 1e-9) * step, Math.ceil(high / step - 1e-9) * step];
  }
  return limits ? [Math.max(low, limits[0]), Math.min(high, limits[1])] : [low, high];
}

class Chart {
  constructor(title, unit, height) {
    this.height = height;
    this.wanted = height > 160 ? 5 : 3; // number of ticks
    this.title = s("title", {}, title);
    this.grid = s("g", { class: "fw-grid-lines" });
    this.lines = s("g", {});
    this.cursor = s("line", { class: "fw-cursor", visibility: "hidden", y1: EDGE.top, y2: height - EDGE.bottom });
    this.unit = h("span", {}, unit);
    this.legend = h("span", { class: "fw-legend" });
    this.caption = h("div", { class: "fw-caption" }, this.unit, this.legend);
    this.svg = s("svg", { role: "img", "aria-label": title, height, class: "fw-chart" }, this.title, this.grid, this.lines, this.cursor);
    this.root = h("div", { class: "fw-chart-box" }, this.caption, this.svg);
  }

  scale(width, steps, [low, high], isLog) {
    const map = isLog ? Math.log : (value) => value;
    const right = width - EDGE.right;
    const bottom = this.height - EDGE.bottom;
    this.x = (step) => EDGE.left + (step / Math.max(steps, 1)) * (right - EDGE.left);
    this.y = (value) => bottom - ((map(value) - map(low)) / (map(high) - map(low) || 1)) * (bottom - EDGE.top);
    this.svg.setAttribute("width", width);
    const ticks = isLog ? logTicks(low, high) : linearTicks(low, high, this.wanted);
    const across = linearTicks(0, Math.max(steps, 1), Math.max(2, Math.floor(width / 90))).filter(Number.isInteger);
    this.grid.replaceChildren(
      ...ticks.filter((tick) => tick >= low - 1e-12).map((tick) => s("g", {},
        s("line", { x1: EDGE.left, x2: right, y1: this.y(tick), y2: this.y(tick) }),
        s("text", { x: EDGE.left - 6, y: this.y(tick) + 4, "text-anchor": "end" }, inWords(tick)))),
      ...across.map((tick) => s("text", { x: this.x(tick), y: this.height - 7, "text-anchor": "middle" }, inWords(tick))),
      s("line", { class: "fw-axis", x1: EDGE.left, x2: right, y1: bottom, y2: bottom }),
    );
    this.lines.replaceChildren();
  }

  // Draws nothing but a faint curve and a sentence, as long as there is no value.
  ghost(width, words) {
    const [right, bottom] = [width - EDGE.right, this.height - EDGE.bottom];
    const [x, y] = [(part) => EDGE.left + part * (right - EDGE.left), (part) => bottom - part * (bottom - EDGE.top)];
    const points = Array.from({ length: 41 }, (_, i) => [i / 40, 0.12 + 0.76 * Math.exp(-i / 11)]);
    const d = points.map(([a, b], i) => `${i ? "L" : "M"}${x(a).toFixed(1)} ${y(b).toFixed(1)}`).join("");
    this.x = null; // there is no step to point at
    this.svg.setAttribute("width", width);
    this.grid.replaceChildren(s("path", { class: "fw-ghost", d }), s("text", { class: "fw-ghost-words", x: x(0.55), y: y(0.78), "text-anchor": "middle" }, words));
    this.lines.replaceChildren();
  }

  line(points, kind, extra) {
    if (points.length === 0) return;
    const d = points.map(([x, y], i) => `${i ? "L" : "M"}${this.x(x).toFixed(1)} ${this.y(y).toFixed(1)}`).join("");
    this.lines.append(s("path", { d, class: `fw-line fw-${kind}`, ...extra }));
  }

  level(value, kind) {
    if (value == null || !Number.isFinite(value)) return;
    this.lines.append(s("line", { class: `fw-line fw-level fw-${kind}`, x1: EDGE.left, x2: this.svg.getAttribute("width") - EDGE.right,
      y1: this.y(value), y2: this.y(value) }));
  }

  // Draws a small mark on the step axis, with its words as a title.
  mark(step, words) {
    const [x, y] = [this.x(step), this.height - EDGE.bottom];
    this.lines.append(s("path", { class: "fw-mark", d: `M${x - 4.5} ${y + 8}L${x + 4.5} ${y + 8}L${x} ${y}Z` }, s("title", {}, words)));
  }

  // Draws a thin line over the whole height at a step at which something happened, with its words as a title.
  event(step, words) {
    const at = { x1: this.x(step), x2: this.x(step), y1: EDGE.top, y2: this.height - EDGE.bottom };
    this.lines.append(s("line", { class: "fw-event", ...at }, s("title", {}, words)));
  }

  // Draws a ring around the best value, with its words as a title.
  best(step, value, words) {
    if (!Number.isFinite(value)) return;
    const [x, y] = [this.x(step), this.y(value)];
    const isLeft = x < EDGE.left + 20;
    this.lines.append(s("circle", { class: "fw-best", cx: x, cy: y, r: 6 }, s("title", {}, words)),
      s("text", { class: "fw-best-word", x: isLeft ? x + 8 : x, y: y - 10, "text-anchor": isLeft ? "start" : "middle" }, "best"));
  }

  // Marks the step that the box shows.
  chosen(step) {
    this.lines.append(s("line", { class: "fw-chosen", x1: this.x(step), x2: this.x(step), y1: EDGE.top, y2: this.height - EDGE.bottom }));
  }

  // Draws the legend from pairs [kind of line, words].
  explain(entries) {
    const shown = entries.filter(Boolean);
    const key = JSON.stringify(shown);
    if (this.legend.dataset.key === key) return;
    this.legend.dataset.key = key;
    this.legend.replaceChildren(...shown.map(([kind, words]) => h("span", {},
      s("svg", { width: 26, height: 10, "aria-hidden": "true" },
        s("line", { class: `fw-line fw-${kind}${kind === "baseline" ? " fw-level" : ""}`, x1: 1, x2: 25, y1: 5, y2: 5 })), words)));
  }

  dots(points, kind, square) {
    for (const [x, y] of points.length > 60 ? [] : points) {
      this.lines.append(square
        ? s("rect", { class: `fw-dot fw-${kind}`, x: this.x(x) - 2.5, y: this.y(y) - 2.5, width: 5, height: 5 })
        : s("circle", { class: `fw-dot fw-${kind}`, cx: this.x(x), cy: this.y(y), r: 2.8 }));
    }
  }
}
