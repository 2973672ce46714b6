// The lines of the curves: decoded from the bytes of the state, smoothed, and read at a step.
function floats(view) {
  if (!view) return [];
  const values = new Array(view.byteLength / 4);
  for (let i = 0; i < values.length; i++) values[i] = view.getFloat32(4 * i, true);
  return values;
}

const points = (x, y) => { const ys = floats(y); return floats(x).map((value, i) => [value, ys[i]]); };

// Exponential mean over steps with bias correction; a bucket of n steps has weight n.
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
const drawn = (line) => ({ raw: points(line.training.x, line.training.y), held: points(line.validation.x, line.validation.y),
  metrics: line.metrics.map((m, i) => ({ ...m, kind: KINDS[m.name] ?? `extra-${i % 3}`, line: points(m.x, m.y) })) });
const lastAt = (points, step) => points.findLast(([x]) => x <= step) ?? null;

const TERMS = {
  loss: () => term("loss"),
  perplexity: () => term("perplexity"),
  accuracy: () => term("accuracy"),
  F1: () => term("F1"),
};
