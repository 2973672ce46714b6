// The field for the backbone, and a line of facts about it.
export default panel("backbone", "Backbone", (body, { send }) => {
  const field = combobox({ label: "Backbone", choose: (value) => send("choose", { value }) });
  const facts = h("p", { class: "fw-facts" });
  const notes = noteList();
  body.append(h("div", { class: "fw-head" }, h("h3", {}, term("backbone", "Backbone")), field.root), facts, notes.root);
  return {
    update(state) {
      field.update(state);
      setText(facts, [state.facts, state.doing].filter(Boolean).join(" · "));
      setAttribute(body, "aria-busy", String(state.doing !== ""));
      notes.update(state.notes, state.doing !== "");
    },
    dispose: field.dispose,
  };
});
