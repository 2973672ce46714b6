// The plan of the next run in one line, where it will run, and Start.
export default panel("next-run", "Next run", (body, { send }) => {
  let state = null;
  let isAsked = false; // pressed, and not answered yet
  const title = h("span", { class: "fw-next-title" });
  const words = h("span", { class: "fw-next-words" });
  const live = h("span", { class: "fw-next-live", role: "status", title: `A click on what has this mark ${LIVE}.`, hidden: true }, h("i", { class: "fw-live", "aria-hidden": "true" }), LIVE);
  const spoken = h("span", { class: "fw-spoken", role: "status" }); // without the seconds, which screen readers would count
  const start = h("button", { type: "button", class: "fw-button fw-primary", onclick: press }, "Start");
  const tipId = freshId();
  const place = dropdown({ label: "runs in", choose: (value) => send("place", { value }) });
  setAttribute(place.root.querySelector("select"), "aria-describedby", tipId);
  body.append(
    h("div", { class: "fw-next-line" }, h("h3", {}, "Next run"), title, start),
    h("div", { class: "fw-next-line" }, h("div", { class: "fw-next-said" }, words, live), place.root, h("span", { class: "fw-spoken", id: tipId }), spoken),
  );

  function press() {
    isAsked = true;
    draw();
    send("start", {}, () => { isAsked = false; draw(); });
  }

  function draw() {
    setText(title, state.title);
    setAttribute(title, "title", state.title);
    const said = isAsked && state.can_start ? "starting …" : state.words;
    setText(words, said);
    setText(spoken, said.replace(/ … .*$/, " …"));
    setAttribute(words, "title", said);
    words.classList.toggle("fw-wrong", state.is_wrong);
    live.hidden = !state.is_live;
    start.disabled = isAsked || !state.can_start;
    setAttribute(start, "title", start.disabled ? said : null);
    place.update(state.place.value, state.place.options);
    setAttribute(place.root, "title", state.place.tip);
    setText(body.querySelector(`#${tipId}`), state.place.tip);
  }

  return { update(next) { state = next; draw(); } };
});
