const STAGES = ["empty", "loaded", "observed", "calibrated", "frozen", "compared"];
const SOURCES = { bundled: "bundled with the workbench", file: "a text file", upload: "an upload", dataset: "a data set by name", images: "a folder of pictures" };
const SCHEMES = [
  ["o3", "O3: one range a tensor, calibrated"], ["o2", "O2: a range for every batch"],
  ["o1", "O1: a range for every token"], ["none", "weights only"],
];
const OBSERVERS = [
  ["max", "largest seen (max)"], ["momentum", "moving average (momentum)"], ["percentile", "all but 1 in 10 000 (percentile)"],
  ["mse", "least squared error (mse)"], ["entropy", "least KL (entropy)"],
];

function render({ model, el }) {
  const number = (name, attributes, read = Math.trunc) => {
    const node = h("input", { type: "number", ...attributes, onchange: () => set(model, name, read(node.valueAsNumber) || 0) });
    follow(model, [name], () => { node.value = model.get(name); });
    return node;
  };
  const words = (name, attributes) => {
    const node = h("input", { type: "text", spellcheck: "false", ...attributes, onchange: () => set(model, name, node.value) });
    follow(model, [name], () => { node.value = model.get(name); });
    return node;
  };
  const menu = (name, values) => {
    const node = h("select", { onchange: () => set(model, name, node.value) });
    follow(model, [name], () => options(node, values(), model.get(name)));
    return node;
  };

  const chooser = upload(model, "upload_limit", { accept: ".txt,.md,.py,.csv,.json,text/*", "data-call": "upload" });
  const kept = h("span", { class: "qw-detail", "aria-live": "polite" });
  follow(model, ["text"], () => { kept.textContent = model.get("text") ? `✓ ${model.get("text").split("/").pop()}` : ""; });

  const of = {
    file: [field("Path on the kernel's machine", words("text", { size: 36, placeholder: "texts/mine.txt" }))],
    upload: [field("UTF-8 text, at most 1 MB", chooser), kept],
    dataset: [
      field("Name on the hub, or a folder", words("dataset", { size: 24, placeholder: "owner/name" })),
      field("Subset", words("subset", { size: 12, placeholder: "the only one" })),
      field("Column of text", words("column", { size: 10 })),
    ],
    images: [field("Folder of PNG or JPEG files on the kernel's machine", words("images", { size: 36, placeholder: "pictures" }))],
  };
  const rows = Object.entries(of).map(([name, fields]) => h("div", { class: "qw-row", "data-source": name }, fields));
  follow(model, ["source"], () => rows.forEach((row) => { row.hidden = row.dataset.source !== model.get("source"); }));

  const momentum = field("Weight of the past", number("momentum", { min: 0, max: 0.99, step: 0.01 }, Number));
  follow(model, ["observer"], () => { momentum.hidden = model.get("observer") !== "momentum"; });
  const ranges = [field("Observer", menu("observer", () => OBSERVERS)), momentum];
  follow(model, ["scheme"], () => { // only calibrated ranges have an observer
    for (const node of ranges) node.querySelector("select, input").disabled = model.get("scheme") !== "o3";
  });

  const reached = h("ol", { class: "qw-stages", "aria-label": "stages" });
  follow(model, ["stage"], () => {
    const now = STAGES.indexOf(model.get("stage"));
    reached.dataset.stage = model.get("stage");
    reached.replaceChildren(...STAGES.slice(1).map((stage, i) => h("li", {
      class: i < now ? "qw-done" : null, "aria-current": i === now - 1 ? "step" : null,
    }, `${i < now ? "✓ " : ""}${stage}`)));
  });

  const changed = h("div", { "data-changes": "" });
  const shown = (key, value) => (key.endsWith("_bytes") ? bytes(value) : String(value));
  follow(model, ["changes", "left"], soon(() => {
    const [found, left] = [model.get("changes"), model.get("left")];
    if (!found.length) {
      changed.replaceChildren();
      return;
    }
    const what = table("What freezing changed", [["", false], ["Before", false], ["After", false]],
      found.map(({ key, label, before, after }) => [label, shown(key, before), shown(key, after)]));
    what.querySelectorAll("tbody tr").forEach((tr, i) => Object.assign(tr.dataset, found[i]));
    const rest = h("details", {}, h("summary", {}, `${left.length} parameters stay in float, and why`),
      h("div", { class: "qw-scroll" }, table("Left in float", [["Parameter", false], ["Reason", false]], left.map(({ name, reason }) => [brief(name), reason]))));
    rest.querySelectorAll("td").forEach((td) => { td.style.whiteSpace = "normal"; });
    changed.replaceChildren(what, ...(left.length ? [rest] : []));
  }));

  card(model, el, "calibration", "Calibrate and freeze",
    h("div", { class: "qw-row" },
      field("Calibration data", menu("source", () => model.get("sources").map((name) => [name, SOURCES[name]]))),
      field("Samples", number("samples", { min: 1, step: 1 })), field("Tokens in each", number("length", { min: 2, step: 1 }))),
    rows,
    h("div", { class: "qw-row" }, field("Scheme", menu("scheme", () => SCHEMES)), ranges),
    h("div", { class: "qw-row" },
      button(model, "calibrate", "Calibrate", "Run the calibration data through the smoothed, quantized model"),
      button(model, "freeze", "Freeze", "Turn the weights into integers and fix the ranges")),
    jobBar(model), reached, changed);
}
