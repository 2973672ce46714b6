// The curves: loss above, the metrics of the task beneath, one crosshair through both.
const HEIGHTS = { loss: 268, metric: 148 };

function floats(view) {
  if (!view) return [];
  const values = new Array(view.byteLength / 4);
  for (let i = 0; i < values.length; i++) values[i] = view.getFloat32(4 * i, true);
  return values;
}

const points = (x, y) => { const ys = floats(y); return floats(x).map((value, i) => [value, ys[i]]); };

// Exponential mean over steps with its start corrected; a bucket of n steps counts as n.
function smooth(line, share, bucket) {
  const keep = share ** bucket;
  let sum = 0;
  let weight = 0;
  return line.map(([x, y]) => {
    sum = keep * sum + (1 - keep) * y;
    weight = keep * weight + (1 - keep);
    return [x, sum / weight];
  });
}

const KINDS = { perplexity: "perplexity", accuracy: "accuracy", macro_f1: "f1" };
const lastAt = (points, step) => points.findLast(([x]) => x <= step) ?? null;

export default panel("curves", "Curves", (body, { model }) => {
  const loss = new Chart("loss", "loss (nats per target)", HEIGHTS.loss);
  const metric = new Chart("metrics", "", HEIGHTS.metric);
  const verdict = h("p", { class: "fw-verdict" });
  const tip = h("div", { class: "fw-tip", hidden: true });
  const charts = h("div", { class: "fw-charts", tabindex: 0, role: "group",
    "aria-label": "curves; arrow keys move the crosshair" }, loss.root, metric.root, tip);
  const logId = freshId();
  const smoothId = freshId();
  const logBox = h("input", { type: "checkbox", id: logId, onchange: () => keep("log_scale", logBox.checked) });
  const slider = h("input", { type: "range", id: smoothId, min: 0, max: 0.99, step: 0.01,
    oninput: () => draw(Number(slider.value)), onchange: () => keep("smoothing", Number(slider.value)) });
  const share = h("output", { for: smoothId });
  body.append(
    h("div", { class: "fw-curves-head" }, h("h3", {}, "Curves"), h("span", { class: "fw-curves-tools" },
      h("label", { for: smoothId }, "smoothing"), slider, share,
      h("label", { class: "fw-check", for: logId }, logBox, "log scale"))),
    charts, verdict,
  );

  let data = null; // the state, decoded
  let cursor = null; // the step under the crosshair
  let pending = 0;
  function keep(trait, value) {
    model.set(trait, value);
    model.save_changes();
  }

  function decode(state) {
    const metrics = state.metrics.map((m) => ({ ...m, kind: KINDS[m.name], line: points(m.x, m.y) }));
    return { ...state, metrics, raw: points(state.training.x, state.training.y), bucket: state.training.bucket,
      means: points(state.training.mean_x, state.training.mean_y), held: points(state.validation.x, state.validation.y) };
  }

  function draw(smoothing) {
    if (!data) return;
    const width = charts.clientWidth;
    if (width < 40) return;
    const isLog = logBox.checked;
    setText(share, smoothing ? smoothing.toFixed(2) : "off");
    drawLoss(width, isLog, smoothing);
    drawMetrics(width);
    drawLegends(smoothing);
    const isEmpty = data.raw.length + data.held.length === 0 && !data.provisional;
    setText(verdict, data.verdict || (isEmpty ? "The curves begin when a run is started." : "\u00a0"));
    setText(loss.title, summary());
    if (cursor != null) point(cursor);
  }

  function drawLoss(width, isLog, smoothing) {
    const { raw, held, provisional, baseline, best } = data;
    const extra = [baseline, provisional?.loss].filter((value) => value != null);
    loss.scale(width, data.steps, span([...raw, ...held].map(([, y]) => y).concat(extra), isLog, loss.wanted), isLog);
    loss.level(baseline, "baseline");
    loss.line(raw, smoothing ? "training fw-faint" : "training");
    data.smoothed = smoothing ? smooth(data.means, smoothing, data.bucket) : null;
    if (data.smoothed) loss.line(data.smoothed, "training");
    loss.line(held, "validation");
    loss.dots(held, "validation");
    if (provisional) {
      loss.lines.append(s("circle", { class: "fw-provisional", cx: loss.x(provisional.step), cy: loss.y(provisional.loss), r: 4 },
        s("title", {}, "evaluation under way")));
    }
    if (best) loss.lines.append(s("circle", { class: "fw-best", cx: loss.x(best.step), cy: loss.y(best.loss), r: 6 },
      s("title", {}, `best: ${inWords(best.loss)} at step ${best.step}`)));
  }

  function drawMetrics(width) {
    const { metrics } = data;
    const isPerplexity = metrics.length > 0 && metrics[0].name === "perplexity";
    const values = metrics.flatMap((m) => m.line.map(([, y]) => y));
    // A baseline perplexity far above the curve would press it flat: it is told in the legend instead.
    const levels = metrics.map((m) => m.baseline).filter((level) => level != null && (!isPerplexity || level <= 2 * Math.max(...values)));
    const isLog = isPerplexity && logBox.checked;
    metric.scale(width, data.steps, span([...values, ...levels], isLog, metric.wanted, isPerplexity ? [0, Infinity] : [0, 1]), isLog);
    setText(metric.unit, metrics.length === 0 ? "\u00a0" : isPerplexity ? "perplexity" : "share of validation rows");
    setText(metric.title, metrics.map((m) => `${m.title}: ${inWords(m.line.at(-1)?.[1])}`).join(", ") || "metrics");
    metrics.forEach((m) => {
      if (levels.includes(m.baseline)) metric.level(m.baseline, isPerplexity ? "baseline" : m.kind);
      metric.line(m.line, m.kind);
      metric.dots(m.line, m.kind, m.kind === "f1");
    });
  }

  function drawLegends(smoothing) {
    const baseline = data.baseline_name || "baseline";
    legend(loss, [["training", smoothing ? "training, smoothed" : "training"], ["validation", "validation"],
      data.baseline != null && ["baseline", baseline]]);
    legend(metric, data.metrics.flatMap((m) => m.name === "perplexity"
      ? [["perplexity", "validation"], m.baseline != null && ["baseline", `${baseline}: ${inWords(m.baseline, 3)}`]] : [[m.kind, m.title]]).concat(
      data.metrics.some((m) => m.name !== "perplexity" && m.baseline != null) ? [["baseline", "baseline of each"]] : []));
  }

  function legend(chart, entries) {
    const shown = entries.filter(Boolean);
    const key = JSON.stringify(shown);
    if (chart.legend.dataset.key === key) return;
    chart.legend.dataset.key = key;
    chart.legend.replaceChildren(...shown.map(([kind, words]) => h("span", {},
      s("svg", { width: 26, height: 10, "aria-hidden": "true" },
        s("line", { class: `fw-line fw-${kind}${kind === "baseline" ? " fw-level" : ""}`, x1: 1, x2: 25, y1: 5, y2: 5 })), words)));
  }

  function summary() {
    const said = [`training loss ${inWords(data.raw.at(-1)?.[1]) || "not measured yet"}`];
    if (data.held.length) said.push(`validation loss ${inWords(data.held.at(-1)[1])}`);
    return `Loss in nats per target at step ${data.last_step} of ${data.steps}: ${said.join(", ")}`;
  }

  function point(step) {
    const rows = [];
    const add = (kind, words, at) => at && rows.push([kind, words, at]);
    add("training", data.smoothed ? "training (raw)" : "training", lastAt(data.raw, step));
    if (data.smoothed) add("training", "smoothed", lastAt(data.smoothed, step));
    add("validation", "validation", lastAt(data.held, step));
    data.metrics.forEach((m) => add(m.kind, m.kind === "f1" ? "F1" : m.title, lastAt(m.line, step)));
    if (rows.length === 0) return hideCursor();
    cursor = step;
    for (const chart of [loss, metric]) {
      for (const end of ["x1", "x2"]) chart.cursor.setAttribute(end, chart.x(step));
      chart.cursor.setAttribute("visibility", "visible");
    }
    tip.replaceChildren(h("b", {}, `step ${inWords(step)}`), ...rows.map(([kind, words, [at, value]]) =>
      h("div", {}, h("i", { class: `fw-key fw-${kind}` }), `${words} `, h("b", {}, inWords(value)), at === step ? "" : ` at ${inWords(at)}`)));
    tip.hidden = false;
    const left = loss.x(step);
    const isRight = left > charts.clientWidth / 2;
    Object.assign(tip.style, { left: isRight ? "auto" : `${left + 12}px`, right: isRight ? `${charts.clientWidth - left + 12}px` : "auto" });
  }

  function hideCursor() {
    cursor = null;
    tip.hidden = true;
    for (const chart of [loss, metric]) chart.cursor.setAttribute("visibility", "hidden");
  }

  // The measured step nearest to a place; evaluations before the first step count too.
  function stepAt(x) {
    const known = [...data.raw, ...data.held].map(([step]) => step);
    if (known.length === 0) return null;
    return known.reduce((best, step) => (Math.abs(loss.x(step) - x) < Math.abs(loss.x(best) - x) ? step : best));
  }

  charts.addEventListener("pointermove", (event) => {
    const step = data && loss.x ? stepAt(event.clientX - charts.getBoundingClientRect().left) : null;
    if (step != null) point(step);
  });
  charts.addEventListener("pointerleave", hideCursor);
  charts.addEventListener("blur", hideCursor);
  charts.addEventListener("keydown", (event) => {
    const known = data ? [...new Set([...data.held, ...data.raw].map(([step]) => step))].sort((a, b) => a - b) : [];
    const by = { ArrowLeft: -1, ArrowRight: 1, Home: -known.length, End: known.length }[event.key];
    if (event.key === "Escape") hideCursor();
    if (!by || known.length === 0) return;
    event.preventDefault();
    const place = cursor == null ? known.length - 1 : known.indexOf(cursor) + by;
    point(known[Math.max(0, Math.min(known.length - 1, place))]);
  });

  // Drawn at most once a frame, and not at all while the page is hidden.
  const later = () => { pending ||= requestAnimationFrame(() => { pending = 0; draw(model.get("smoothing")); }); };
  const settings = () => {
    logBox.checked = model.get("log_scale");
    slider.value = model.get("smoothing");
    later();
  };
  model.on("change:log_scale change:smoothing", settings);
  const watcher = new ResizeObserver(later);
  watcher.observe(charts);
  settings();
  return {
    update(state) { data = decode(state); later(); },
    dispose() {
      watcher.disconnect();
      model.off("change:log_scale change:smoothing", settings);
    },
  };
});
