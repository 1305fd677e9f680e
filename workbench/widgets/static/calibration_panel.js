const STAGES = ["empty", "loaded", "observed", "calibrated", "frozen", "compared"];

function render({ model, el }) {
  const number = (name, least) => {
    const node = h("input", { type: "number", min: least, step: 1, onchange: () => set(model, name, Math.trunc(node.valueAsNumber) || 0) });
    follow(model, [name], () => { node.value = model.get(name); });
    return node;
  };
  const menu = (name, values) => {
    const node = h("select", { onchange: () => set(model, name, node.value) });
    follow(model, [name], () => options(node, values, model.get(name)));
    return node;
  };
  const reached = h("ol", { class: "qw-stages", "aria-label": "stages" });
  follow(model, ["stage"], () => {
    const now = STAGES.indexOf(model.get("stage"));
    reached.dataset.stage = model.get("stage");
    reached.replaceChildren(...STAGES.slice(1).map((stage, i) => h("li", {
      class: i < now ? "qw-done" : null, "aria-current": i === now - 1 ? "step" : null,
    }, `${i < now ? "✓ " : ""}${stage}`)));
  });
  card(model, el, "calibration", "Calibration",
    h("div", { class: "qw-row" },
      field("Scheme", menu("scheme", [["o3", "O3: one range a tensor, calibrated"], ["o2", "O2: a range for every batch"], ["o1", "O1: a range for every token"], ["none", "none: weights only"]])),
      field("Observer", menu("observer", [["max", "largest seen"], ["momentum", "moving average"], ["percentile", "all but 1 in 10 000"], ["mse", "least squared error"], ["entropy", "least KL"]])),
      field("Samples", number("samples", 1)), field("Tokens in each", number("length", 2))),
    h("div", { class: "qw-row" },
      button(model, "calibrate", "Calibrate", "Run the calibration data through the smoothed, quantized model"),
      button(model, "freeze", "Freeze", "Turn the weights into integers and fix the ranges")),
    jobBar(model), reached);
}
export default { render };
