// The field for the backbone, and a line of facts about it.
export default panel("backbone", "Backbone", (body, { send }) => {
  const field = combobox({ label: "Backbone", choose: (value) => send("choose", { value }) });
  const facts = h("p", { class: "fw-facts" });
  const notes = noteList();
  const doing = h("div", { class: "fw-notes fw-doing" }); // where the notes will be
  body.append(h("div", { class: "fw-head" }, h("h3", {}, term("backbone", "Backbone")), field.root), facts, doing, notes.root);
  return {
    update(state) {
      field.update(state);
      setText(facts, state.facts);
      setText(doing, state.doing);
      doing.hidden = state.doing === "";
      setAttribute(body, "aria-busy", String(state.doing !== ""));
      notes.update(state.notes);
    },
    dispose: field.dispose,
  };
});
