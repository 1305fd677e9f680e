function render({ model, el }) {
  const result = h("div");
  const folder = h("input", { type: "text", spellcheck: "false", onchange: () => set(model, "folder", folder.value) });
  const saving = h("div", { class: "qw-row" }, field("Folder", folder), button(model, "save", "Save", "Write checkpoint, recipe and plan"));
  const saved = h("p", { class: "qw-detail", "aria-live": "polite" });

  const shown = (row, value) => (row.key === "bytes" ? bytes(value) : figure(value, 4));
  const change = ({ key, float, quantized }) => {
    if (float === null || quantized === null) return "–";
    if (key === "bytes") return `${figure(float / quantized)} times smaller`;
    if (key === "perplexity") return `${quantized >= float ? "+" : ""}${figure(100 * (quantized / float - 1))} %`;
    return `${quantized >= float ? "+" : ""}${figure(quantized - float)}`;
  };

  function bars(layers) {
    const top = Math.max(...layers.map((layer) => layer.sqnr_db ?? 0), 1);
    return h("table", { class: "qw-table qw-bars" },
      h("caption", {}, "Error of each layer's output, SQNR in dB (more is better)"),
      h("thead", {}, h("tr", {}, ["Layer", "", "dB"].map((label) => h("th", { scope: "col", class: label === "dB" ? "qw-number" : null }, label)))),
      h("tbody", {}, layers.map(({ name, sqnr_db }) => h("tr", {},
        h("td", {}, brief(name)),
        h("td", { class: "qw-bar-cell" }, h("div", {
          class: "qw-bar", "data-layer": name, "data-value": sqnr_db ?? "",
          style: `width: ${Math.max(0, (100 * (sqnr_db ?? top)) / top).toFixed(2)}%`,
        })),
        h("td", { class: "qw-number" }, figure(sqnr_db))))));
  }

  follow(model, ["rows", "layers", "tokens"], soon(() => {
    const rows = model.get("rows");
    if (!rows.length) {
      result.replaceChildren(h("p", {}, "Nothing compared for this recipe yet."));
      return;
    }
    const figures = table(
      model.get("tokens") ? `Measured on ${model.get("tokens").toLocaleString("en")} tokens of the evaluation data` : "Measured on the evaluation data",
      [["", false], ["Float", true], ["Quantized", true], ["Change", true]],
      rows.map((row) => [row.label, shown(row, row.float), shown(row, row.quantized), change(row)]));
    figures.querySelectorAll("tbody tr").forEach((tr, i) =>
      Object.assign(tr.dataset, { key: rows[i].key, float: rows[i].float ?? "", quantized: rows[i].quantized ?? "" }));
    result.replaceChildren(h("div", { class: "qw-split" }, figures, h("div", { class: "qw-scroll" }, bars(model.get("layers")))));
  }));
  follow(model, ["folder"], () => { folder.value = model.get("folder"); });
  follow(model, ["may_save"], () => { saving.hidden = !model.get("may_save"); });
  follow(model, ["saved"], () => { saved.textContent = model.get("saved") ? `✓ saved to ${model.get("saved")}` : ""; });

  card(model, el, "comparison", "Float against quantized", noteLine(model),
    h("div", { class: "qw-row" }, button(model, "compare", "Compare", "Evaluate both models on the evaluation data")),
    jobBar(model, ["compare", "save"]), result, saving, saved, sidesView(model));
}
