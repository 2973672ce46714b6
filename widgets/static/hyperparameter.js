// The settings: the most important ones, and more after a click.
export default panel("hyperparameter", "Settings", (body, { send }) => {
  const first = h("div", { class: "fw-settings" });
  const more = h("div", { class: "fw-settings-more" });
  const groups = new Map(); // name -> its box
  const groupOf = (name) => {
    if (!groups.has(name)) {
      const box = h("div", { class: "fw-settings", role: "group", "aria-label": name }, h("h4", {}, name));
      groups.set(name, box);
      more.append(box);
    }
    return groups.get(name);
  };
  const machine = h("p", { class: "fw-machine", title: "What this run found out about this machine before its first step." });
  const rest = h("div", {}, more, machine);
  body.append(h("div", { class: "fw-head" }, h("h3", {}, term("hyperparameter", "Settings")), fold(rest, "more", "less").root), first, rest);
  const fields = new Map();
  const place = (box, spec) => {
    if (fields.has(spec.name)) return;
    fields.set(spec.name, settingField(spec, send));
    box.append(fields.get(spec.name).root);
  };
  return {
    update(state) {
      state.first.forEach((spec) => place(first, spec));
      state.more.forEach((spec) => place(groupOf(spec.group), spec));
      for (const spec of [...state.first, ...state.more]) fields.get(spec.name).update(spec, state.refusals, state.is_running);
      setText(machine, state.machine ? `on this machine: ${state.machine}` : "");
      machine.hidden = !state.machine;
    },
  };
});
