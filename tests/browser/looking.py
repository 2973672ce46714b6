"""JavaScript that looks at the panel from within the page: times, contrast, overflow."""

# Click the button of these words, and return the milliseconds until `test` holds.
TIME_FROM_CLICK = """
([words, test, limit]) => new Promise((resolve, reject) => {
  const holds = new Function("find", "return " + test);
  const find = (selector) => document.querySelector(".fw-workbench " + selector);
  const buttons = document.querySelectorAll(".fw-workbench :is(.fw-next-run, .fw-run) button");
  const button = [...buttons].find((b) => b.textContent === words);
  if (!button || button.disabled) return reject(new Error(words + " can't be pressed"));
  const begun = performance.now();
  const look = () => { if (holds(find)) { watcher.disconnect(); resolve(performance.now() - begun); } };
  const watcher = new MutationObserver(look);
  watcher.observe(document.body, { subtree: true, childList: true, characterData: true, attributes: true });
  setTimeout(() => { watcher.disconnect(); reject(new Error(words + ": not in time")); }, limit);
  button.click();
  look();
})
"""

# Every visible text whose contrast with what is behind it is below 4.5, as "text: ratio".
TOO_FAINT = """
() => {
  const parse = (colour) => (colour.match(/[\\d.]+/g) ?? []).map(Number);
  const over = ([r, g, b, a = 1], [x, y, z]) => [r * a + x * (1 - a), g * a + y * (1 - a), b * a + z * (1 - a)];
  const behind = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      if (colour.length === 3) return colour;
      if (colour.length === 4 && colour[3] > 0) return over(colour, behind(at.parentElement));
    }
    return [255, 255, 255];
  };
  const light = (colour) => {
    const [r, g, b] = colour.map((c) => (c / 255 <= 0.03928 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const veil = (node) => (node ? Number(getComputedStyle(node).opacity) * veil(node.parentElement) : 1);
  const faint = [];
  for (const node of document.querySelectorAll(".fw-workbench .fw-panel *")) {
    const words = [...node.childNodes].filter((c) => c.nodeType === 3).map((c) => c.textContent.trim()).join("");
    const box = node.getBoundingClientRect();
    if (!words || box.width < 2 || box.height < 2 || node.closest(":disabled, [inert], .fw-spoken, title")) continue;
    const style = getComputedStyle(node);
    const block = node.matches(".fw-moved") ? null : node.closest(".fw-block[data-kind=trainable]");
    const rect = block?.querySelector("rect");
    const ground = rect ? parse(getComputedStyle(rect).fill) : behind(node);
    const [red, green, blue, alpha = 1] = parse(node.ownerSVGElement ? style.fill : style.color);
    const ink = over([red, green, blue, alpha * veil(node)], ground);
    const [a, b] = [light(ink), light(ground)].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) faint.push(`${words.slice(0, 30)}: ${ratio.toFixed(2)}`);
  }
  return faint;
}
"""

# Every element of the panel that sticks out of it to the right, or whose own text is cut without an ellipsis.
STICKING_OUT = """
() => {
  const panel = document.querySelector(".fw-workbench").getBoundingClientRect();
  const out = [];
  for (const node of document.querySelectorAll(".fw-workbench *")) {
    const box = node.getBoundingClientRect();
    if (box.width < 1 || node.closest(".fw-spoken, .fw-popup, .fw-tip, .fw-table-box, .fw-combo > label")) continue;
    if (box.right > panel.right + 1) out.push(node.className?.baseVal ?? node.className ?? node.tagName);
  }
  if (panel.right > window.innerWidth) out.push("the panel itself");
  return out;
}
"""

# Every label of a setting that runs into its field.
CUT_LABELS = """
() => [...document.querySelectorAll(".fw-setting:not([hidden]) > label")].filter((label) => {
  const words = document.createRange();
  words.selectNodeContents(label);
  return words.getBoundingClientRect().right > label.nextElementSibling.getBoundingClientRect().left;
}).map((label) => label.textContent)
"""

# Whether what has the focus shows it, by an outline or the dashed edge of a block; null if it is not in the box.
FOCUSED = """
(box) => {
  const node = document.activeElement;
  if (!node.closest(box)) return null;
  (window.focused ??= new Set()).add(node);
  const edge = node.querySelector("rect");
  const isDashed = edge != null && getComputedStyle(edge).strokeDasharray !== "none";
  return isDashed || getComputedStyle(node).outlineStyle !== "none";
}
"""

# Every control of the box that FOCUSED was never called at.
NEVER_FOCUSED = """
(box) => [...document.querySelectorAll(box + " :is(button, input, select, summary, [tabindex='0'])")]
  .filter((node) => node.checkVisibility({ visibilityProperty: true }) && !node.disabled && !focused.has(node))
  .map((node) => node.outerHTML.slice(0, 100))
"""
