// The curves: the loss, below it the metrics of the task, and below them user metrics, with one crosshair.
const HEIGHTS = { loss: 250, metric: 134, other: 128 };

export default panel("curves", "Curves", (body, { model, send }) => {
  const loss = new Chart("loss", "", HEIGHTS.loss);
  const metric = new Chart("metrics", "", HEIGHTS.metric);
  const other = new Chart("other metrics", "other metrics", HEIGHTS.other);
  const all = [loss, metric, other];
  setTerms(loss.unit, "loss (lower is better)", TERMS);
  const run = h("span", { class: "fw-curves-run" });
  const forkedFrom = h("span", {});
  const fork = h("p", { class: "fw-fork", role: "status", hidden: true }, term("fork", "Fork"), forkedFrom);
  const leftOut = h("p", { class: "fw-fork", role: "status" });
  const box = pointBox(send);
  const verdict = h("p", { class: "fw-verdict" });
  const tip = h("div", { class: "fw-tip", hidden: true });
  const charts = h("div", { class: "fw-charts", tabindex: 0, role: "group",
    "aria-label": "curves; arrow keys move along the steps, Enter looks at one" }, loss.root, metric.root, other.root, tip);
  const logId = freshId();
  const smoothId = freshId();
  const logBox = h("input", { type: "checkbox", id: logId, onchange: () => keep("log_scale", logBox.checked) });
  const slider = h("input", { type: "range", id: smoothId, min: 0, max: 0.99, step: 0.01,
    oninput: () => draw(Number(slider.value)), onchange: () => keep("smoothing", Number(slider.value)) });
  const share = h("output", { for: smoothId });
  body.append(
    h("div", { class: "fw-curves-head" }, h("h3", {}, "Curves"), run, h("span", { class: "fw-curves-tools" },
      h("label", { for: smoothId }, "smoothing"), slider, share,
      h("label", { class: "fw-check", for: logId }, logBox, "log scale"))),
    fork, leftOut, charts, verdict, box.root,
  );

  let data = null; // the state, decoded
  let cursor = null; // the step under the crosshair
  let pending = 0;
  function keep(trait, value) {
    model.set(trait, value);
    model.save_changes();
  }

  function decode(state) {
    const own = drawn(state);
    return { ...state, ...own, metrics: own.metrics.filter((m) => !m.is_extra), others: own.metrics.filter((m) => m.is_extra),
      before: state.parent && drawn(state.parent), over: state.overlaid.map((line) => ({ title: line.title, ...drawn(line) })), bucket: state.training.bucket,
      means: points(state.training.mean_x, state.training.mean_y) };
  }

  function draw(smoothing) {
    if (!data) return;
    const width = charts.clientWidth;
    if (width < 40) return;
    const isLog = logBox.checked;
    setText(run, data.name);
    data.across = Math.max(data.steps, ...data.over.map(({ raw }) => raw.at(-1)?.[0] ?? 0)); // steps on the axis
    setText(share, smoothing ? smoothing.toFixed(2) : "off");
    drawLoss(width, isLog, smoothing);
    drawMetrics(width);
    drawOthers(width);
    drawLegends(smoothing);
    if (data.point) all.filter((chart) => chart.x).forEach((chart) => chart.chosen(data.point.step));
    setText(verdict, data.verdict || "\u00a0");
    setText(loss.title, summary());
    if (cursor != null) point(cursor);
  }

  function drawLoss(width, isLog, smoothing) {
    const { raw, held, provisional, baseline, best, before, over } = data;
    if (raw.length + held.length + over.length === 0 && !provisional) return loss.ghost(width, data.empty);
    const extra = [baseline, provisional?.loss].filter((value) => value != null);
    const lines = [raw, held, ...(before ? [before.raw, before.held] : []), ...over.flatMap((line) => [line.raw, line.held])];
    const values = lines.flat().map(([, y]) => y).concat(extra);
    loss.scale(width, data.across, span(values, isLog, loss.wanted, values.some((y) => y < 0) ? null : [0, Infinity]), isLog);
    loss.level(baseline, "baseline");
    if (before) {
      loss.line(before.raw, "parent");
      loss.line(before.held, "parent-held");
    }
    over.forEach((line, i) => {
      loss.line(line.raw, `over-${i} fw-faint`);
      loss.line(line.held, `over-${i}`);
      loss.dots(line.held, `over-${i}`);
    });
    loss.line(raw, smoothing ? "training fw-faint" : "training");
    data.smoothed = smoothing ? smooth(data.means, smoothing, data.bucket) : null;
    if (data.smoothed) loss.line(data.smoothed, "training");
    loss.line(held, "validation");
    loss.dots(held, "validation");
    if (provisional) {
      loss.lines.append(s("circle", { class: "fw-provisional", cx: loss.x(provisional.step), cy: loss.y(provisional.loss), r: 4 },
        s("title", {}, "evaluation under way")));
    }
    if (best) loss.best(best.step, best.loss, bestWords(best));
    for (const mark of data.marks) {
      if (mark.is_unfreezing) loss.event(mark.step, mark.words);
      loss.mark(mark.step, mark.words);
    }
  }

  const bestWords = ({ title, value, step }) => `best step: validation ${title} ${inWords(value)} at step ${inWords(step)}`;

  function drawMetrics(width) {
    const { metrics } = data;
    const isPerplexity = metrics.length > 0 && metrics[0].name === "perplexity";
    const before = metrics.map((m) => ancestor(m.name)?.line ?? []);
    const over = metrics.map((m) => others(m.name));
    setTerms(metric.unit, metrics.length === 0 ? "\u00a0" : isPerplexity ? "perplexity (lower is better)" : "accuracy and F1 on validation rows", TERMS);
    if (metrics.length === 0) return metric.ghost(width, "");
    const values = [...metrics.map((m) => m.line), ...before, ...over.flat()].flat().map(([, y]) => y);
    // A baseline perplexity far above the curve would flatten it, so only the legend shows it.
    const levels = metrics.map((m) => m.baseline).filter((level) => level != null && (!isPerplexity || level <= 2 * Math.max(...values)));
    const isLog = isPerplexity && logBox.checked;
    metric.scale(width, data.across, span([...values, ...levels], isLog, metric.wanted, isPerplexity ? [0, Infinity] : [0, 1]), isLog);
    setText(metric.title, metrics.map((m) => `${m.title}: ${inWords(m.line.at(-1)?.[1])}`).join(", ") || "metrics");
    before.forEach((line) => metric.line(line, "parent-held"));
    over.forEach((lines) => lines.forEach((line, i) => metric.line(line, `over-${i}`)));
    metrics.forEach((m) => {
      if (levels.includes(m.baseline)) metric.level(m.baseline, isPerplexity ? "baseline" : m.kind);
      metric.line(m.line, m.kind);
      metric.dots(m.line, m.kind, m.kind === "f1");
    });
    if (metrics.some((m) => m.name === data.best?.metric)) metric.best(data.best.step, data.best.value, bestWords(data.best));
    for (const { step, words } of data.marks.filter((mark) => mark.is_unfreezing)) metric.event(step, words);
  }

  // User metrics have a separate chart, because their range is unknown.
  function drawOthers(width) {
    other.root.hidden = data.others.length === 0;
    if (other.root.hidden) return;
    const before = data.others.map((m) => ancestor(m.name)?.line ?? []);
    const over = data.others.map((m) => others(m.name));
    other.scale(width, data.across, span([...data.others.map((m) => m.line), ...before, ...over.flat()].flat().map(([, y]) => y), false, other.wanted), false);
    before.forEach((line) => other.line(line, "parent-held"));
    over.forEach((lines) => lines.forEach((line, i) => other.line(line, `over-${i}`)));
    data.others.forEach((m) => { other.line(m.line, m.kind); other.dots(m.line, m.kind); });
    setText(other.title, data.others.map((m) => `${m.title}: ${inWords(m.line.at(-1)?.[1])}`).join(", "));
  }

  const others = (name) => data.over.map((line) => line.metrics.find((m) => m.name === name)?.line ?? []); // of the runs that are compared
  const ancestor = (name) => data.before?.metrics.find((m) => m.name === name);

  const named = (test) => data.over.flatMap((line, i) => (test(line) ? [[`over-${i}`, line.title]] : [])); // for a legend

  function drawLegends(smoothing) {
    const baseline = data.baseline_name ? `baseline: ${data.baseline_name}` : "baseline";
    const isEmpty = loss.x == null;
    loss.explain(isEmpty ? [] : [["training", smoothing ? "training, smoothed" : "training"], ["validation", "validation"],
      data.before && ["parent-held", "parent"], ...named(() => true),
      data.baseline != null && ["baseline", baseline]]);
    const isMeasured = (m) => (line) => line.metrics.some(({ name }) => name === m.name);
    const parent = (metrics) => metrics.some((m) => ancestor(m.name)) && ["parent-held", "parent"];
    const over = (metrics) => named((line) => metrics.some((m) => isMeasured(m)(line)));
    metric.explain(data.metrics.flatMap((m) => m.name === "perplexity"
      ? [["perplexity", "validation"], m.baseline != null && ["baseline", `${baseline}: ${inWords(m.baseline, 3)}`]] : [[m.kind, m.title], m.baseline != null && [`level fw-${m.kind}`, `its baseline: ${inWords(m.baseline, 2)}`]])
      .concat([parent(data.metrics), ...over(data.metrics)]));
    other.explain([...data.others.map((m) => [m.kind, m.title]), parent(data.others), ...over(data.others)]);
    setText(leftOut, data.left_out.join(" · "));
    setText(forkedFrom, data.fork ? [` of ${data.fork.parent}: ${data.fork.differs}`, data.fork.note].filter(Boolean).join(" · ") : "");
    fork.hidden = !data.fork;
  }

  function summary() {
    const said = [`training loss ${inWords(data.raw.at(-1)?.[1]) || "not measured yet"}`];
    if (data.held.length) said.push(`validation loss ${inWords(data.held.at(-1)[1])}`);
    for (const { words } of data.marks) said.push(words);
    return `Loss in nats per target at step ${data.last_step} of ${data.steps}: ${said.join(", ")}`;
  }

  function point(step) {
    const rows = [];
    const add = (kind, words, at) => at && rows.push([kind, words, at]);
    add("training", data.smoothed ? "training (raw)" : "training", lastAt(data.raw, step));
    if (data.smoothed) add("training", "smoothed", lastAt(data.smoothed, step));
    add("validation", "validation", lastAt(data.held, step));
    [...data.metrics, ...data.others].forEach((m) => add(m.kind, m.kind === "f1" ? "F1" : m.title, lastAt(m.line, step)));
    data.over.forEach(({ title, held }, i) => add(`over-${i}`, `validation of ${title}`, lastAt(held, step)));
    if (rows.length === 0) return hideCursor();
    cursor = step;
    for (const chart of all.filter((chart) => chart.x)) {
      for (const end of ["x1", "x2"]) chart.cursor.setAttribute(end, chart.x(step));
      chart.cursor.setAttribute("visibility", "visible");
    }
    tip.replaceChildren(h("b", {}, `step ${inWords(step)}`), ...rows.map(([kind, words, [at, value]]) =>
      h("div", {}, h("i", { class: `fw-key fw-${kind}` }), `${words} `, h("b", {}, inWords(value)), at === step ? "" : ` at ${inWords(at)}`)),
      ...data.marks.filter((mark) => mark.step === step).map(({ words }) => h("div", {}, words)));
    tip.hidden = false;
    const left = loss.x(step);
    const isRight = left > charts.clientWidth / 2;
    Object.assign(tip.style, { left: isRight ? "auto" : `${left + 12}px`, right: isRight ? `${charts.clientWidth - left + 12}px` : "auto" });
  }

  function hideCursor() {
    cursor = null;
    tip.hidden = true;
    for (const chart of all) chart.cursor.setAttribute("visibility", "hidden");
  }

  // Returns the measured step nearest to a position; evaluations before the first step count, too.
  function stepAt(x) {
    const known = [...data.raw, ...data.held].map(([step]) => step);
    if (known.length === 0) return null;
    return known.reduce((best, step) => (Math.abs(loss.x(step) - x) < Math.abs(loss.x(best) - x) ? step : best));
  }

  charts.addEventListener("pointermove", (event) => {
    const step = data && loss.x ? stepAt(event.clientX - charts.getBoundingClientRect().left) : null;
    if (step != null) point(step);
  });
  charts.addEventListener("click", (event) => {
    const step = data && loss.x ? stepAt(event.clientX - charts.getBoundingClientRect().left) : null;
    if (step != null) send("point", { step });
  });
  charts.addEventListener("pointerleave", hideCursor);
  charts.addEventListener("blur", hideCursor);
  charts.addEventListener("keydown", (event) => {
    const known = data ? [...new Set([...data.held, ...data.raw].map(([step]) => step))].sort((a, b) => a - b) : [];
    const by = { ArrowLeft: -1, ArrowRight: 1, Home: -known.length, End: known.length }[event.key];
    if (event.key === "Escape") hideCursor();
    if (event.key === "Enter" && cursor != null) send("point", { step: cursor });
    if (!by || known.length === 0) return;
    event.preventDefault();
    const place = (cursor == null ? (by < 0 ? known.length : -1) : known.indexOf(cursor)) + by; // without a cursor, start from the end
    point(known[Math.max(0, Math.min(known.length - 1, place))]);
  });

  // Draws at most once per frame, and not while the page is hidden.
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
    update(state) {
      data = decode(state);
      if (box.update(state.point)) charts.focus();
      later();
    },
    dispose() {
      watcher.disconnect();
      model.off("change:log_scale change:smoothing", settings);
    },
  };
});
