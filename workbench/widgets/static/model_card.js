const WIDTHS = ["fp32", "bf16", "int8", "int4"];
const KINDS = { "causal-lm": "language model", "image-classifier": "classifier of images" };

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
  const needs = h("div", { class: "qw-needs", role: "group", "aria-label": "estimate before loading" });

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

  follow(model, ["needs", "facts", "name"], soon(() => {
    const found = model.get("needs");
    needs.hidden = model.get("facts").name === model.get("name");
    needs.dataset.parameters = found.parameters ?? "";
    if (found.reason) return needs.replaceChildren(h("p", { class: "qw-detail" }, `No estimate: ${found.reason}`));
    if (!found.name) return needs.replaceChildren(h("p", { class: "qw-detail" }, "Estimating …"));
    const most = found.bytes.fp32;
    needs.replaceChildren(
      h("p", { class: "qw-detail" }, [
        `${found.architecture || "Model"}: ${found.parameters.toLocaleString("en")} parameters`,
        ...(found.layers === null ? [] : [`${found.layers} blocks`]), `${bytes(found.file_bytes)} on disk`].join(" · ")),
      h("table", { class: "qw-widths" }, h("caption", {}, "Weights in memory, without scales"),
        h("tbody", {}, WIDTHS.map((width) => h("tr", {}, h("th", { scope: "row" }, width),
          h("td", { class: "qw-number", "data-width": width, "data-value": found.bytes[width] }, bytes(found.bytes[width])),
          h("td", { "aria-hidden": "true" }, h("div", { class: "qw-width-bar", style: `width: ${(100 * found.bytes[width]) / most}%` })))))),
      h("p", { class: found.fits ? "qw-detail" : "qw-note", "data-fits": found.fits }, [
        ...(found.free_bytes === null ? [] : [`${found.fits ? "" : "⚠ Too large for this machine? "}${bytes(found.free_bytes)} of memory are free`]),
        ...(found.load_seconds === null ? [] : [`reading takes about ${seconds(found.load_seconds)}`]),
        ...(found.observe_seconds === null ? [] : [`gathering statistics about ${seconds(found.observe_seconds)}`]),
      ].join(" · "), " (estimates, from rates measured here)"),
    );
    return undefined;
  }));

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
      ["kind", "Kind", KINDS[found.kind] ?? found.kind],
      ["parameters", "Parameters", found.parameters.toLocaleString("en")],
      ["bytes", "Size in fp32", bytes(found.bytes)],
      ["layers", "Blocks", found.layers],
    ]) facts.append(h("li", { "data-fact": key, "data-value": found[key] }, `${label}: `, h("b", {}, String(value))));
  });

  card(model, el, "model", "Model",
    h("div", { class: "qw-row" }, field("Model", menu), other,
      button(model, "load", "Load", "Load the model and gather its activation statistics")),
    about, warning, needs, facts, jobBar(model));
}

/** A rough time: nobody needs the milliseconds of an estimate. */
function seconds(value) {
  if (value < 1) return "1 s";
  return value < 90 ? `${Math.ceil(value)} s` : value < 5400 ? `${Math.ceil(value / 60)} min` : `${figure(value / 3600, 2)} h`;
}
