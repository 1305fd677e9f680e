// Of an agreement or a divergence, which are measured against the float model, a ratio says nothing.
const COMPARED = ["perplexity", "loss", "bytes", "prefill_ms"];

function render({ model, el }) {
  const heading = h("p", { class: "qw-report-title" });
  const facts = h("dl", { class: "qw-report-facts" });
  const figures = h("div");
  const layers = h("div");
  const recipe = h("pre", { class: "qw-code", "data-language": "json", tabindex: 0, "aria-label": "recipe as JSON" });
  const details = h("details", {}, h("summary", {}, "The recipe"), recipe);
  const print = h("button", { type: "button", onclick: () => window.print() }, "Print");
  const body = h("div", { class: "qw-report" }, heading, noteLine(model), facts, figures, layers, details);
  const nothing = h("p", {}, "No card for this recipe yet.");

  const shown = (row, value) => (row.key === "bytes" ? bytes(value) : figure(value, 4));
  const ratio = ({ key, float, quantized }) => (COMPARED.includes(key) && float ? `× ${(quantized / float).toFixed(3)}` : "–");

  follow(model, ["title", "facts", "rows", "layers", "recipe"], soon(() => {
    const rows = model.get("rows");
    body.hidden = print.hidden = !rows.length;
    nothing.hidden = Boolean(rows.length);
    heading.textContent = model.get("title");
    facts.replaceChildren(...model.get("facts").flatMap(({ label, value }) => [h("dt", {}, label), h("dd", {}, value)]));
    const quality = table("What was measured",
      [["", false], ["Float", true], ["Quantized", true], ["Quantized / float", true]],
      rows.map((row) => [row.label, shown(row, row.float), shown(row, row.quantized), ratio(row)]));
    quality.querySelectorAll("tbody tr").forEach((tr, i) =>
      Object.assign(tr.dataset, { key: rows[i].key, float: rows[i].float ?? "", quantized: rows[i].quantized ?? "" }));
    figures.replaceChildren(quality);
    const found = model.get("layers");
    const every = table("Every layer (SQNR of its output, in dB: more is better)",
      [["Layer", false], ["Bits", true], ["Scheme", false], ["Size", true], ["SQNR", true], ["Outlier ratio", true],
        ["Loudest channels", false], ["Op", false]],
      found.map((layer) => [brief(layer.name), String(layer.bits), layer.scheme,
        `${bytes(layer.bytes)} of ${bytes(layer.float_bytes)}`, figure(layer.sqnr_db), figure(layer.outlier_ratio),
        layer.channels.join(", ") || "–", layer.op]));
    every.querySelectorAll("tbody tr").forEach((tr, i) => { tr.dataset.layer = found[i].name; });
    layers.replaceChildren(every);
    recipe.textContent = model.get("recipe");
  }));

  card(model, el, "report", "Model report card",
    h("div", { class: "qw-row qw-no-print" },
      button(model, "make", "Make the card", "Quantize as the recipe says and measure against the float model"), print),
    jobBar(model), nothing, body);
}
