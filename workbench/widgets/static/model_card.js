function render({ model, el }) {
  const OTHER = "\u0000other";
  const menu = h("select", { onchange: () => {
    other.hidden = menu.value !== OTHER;
    if (menu.value === OTHER) typed.focus();
    else set(model, "name", menu.value);
  } });
  const typed = h("input", {
    type: "text", placeholder: "folder or hub id", spellcheck: "false",
    onchange: () => set(model, "name", typed.value.trim()),
  });
  const other = field("Folder or hub id", typed);
  const about = h("p", { class: "qw-about" });
  const warning = h("p", { class: "qw-note" });
  const facts = h("ul", { class: "qw-facts", "aria-label": "loaded model" });

  follow(model, ["name", "choices", "free"], () => {
    const choices = model.get("choices");
    const name = model.get("name");
    const known = choices.find((choice) => choice.name === name);
    const entries = choices.map((choice) => [choice.name]);
    if (model.get("free")) entries.push([OTHER, "a folder or hub id …"]);
    options(menu, entries, known ? name : OTHER);
    other.hidden = Boolean(known);
    if (!known) typed.value = name;
    about.textContent = known?.description ?? "";
    warning.textContent = known?.note ? `Note: ${known.note}` : "";
    warning.hidden = !known?.note;
  });

  follow(model, ["facts"], () => {
    const found = model.get("facts");
    facts.replaceChildren();
    facts.dataset.loaded = found.name ?? "";
    if (!found.name) {
      facts.append(h("li", {}, "Nothing loaded yet."));
      return;
    }
    for (const [key, label, value] of [
      ["name", "Loaded", found.name],
      ["kind", "Kind", found.kind],
      ["parameters", "Parameters", found.parameters.toLocaleString("en")],
      ["bytes", "Size in fp32", bytes(found.bytes)],
      ["layers", "Layers", found.layers],
    ]) facts.append(h("li", { "data-fact": key, "data-value": found[key] }, `${label}: `, h("b", {}, String(value))));
  });

  card(model, el, "model", "Model",
    h("div", { class: "qw-row" }, field("Model", menu), other,
      button(model, "load", "Load", "Load the model and gather its activation statistics")),
    about, warning, facts, jobBar(model));
}
export default { render };
