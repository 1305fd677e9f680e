// The preview is the arithmetic of workbench.smooth.smoothing_scales, done here so that moving the
// slider asks nothing of the kernel. A test compares what is drawn with the Python function.

const LEAST = 1e-5;

/** s = x^alpha / w^(1 - alpha), both clamped to 1e-5; a channel that is always zero keeps scale 1. */
function smoothingScales(x, w, alpha) {
  return Float64Array.from(x, (v, i) =>
    v === 0 ? 1 : Math.max(v, LEAST) ** alpha / Math.max(w[i], LEAST) ** (1 - alpha));
}

function smoothed(x, w, alpha) {
  const s = smoothingScales(x, w, alpha);
  return { x: Float64Array.from(x, (v, i) => v / s[i]), w: Float64Array.from(w, (v, i) => v * s[i]) };
}

/** Largest over median: how much of the int8 range one channel takes from the others. */
function difficulty(values) {
  let top = 0;
  for (const v of values) if (v > top) top = v;
  return top / median(values);
}

const STEPS = Array.from({ length: 51 }, (_, i) => i / 50);

function render({ model, el }) {
  let [x, w, ranked, curves] = [[], [], [], null];
  const slider = h("input", { type: "range", min: 0, max: 1, step: 0.01, "aria-label": "alpha" });
  const number = h("input", { type: "number", min: 0, max: 1, step: 0.01, "aria-label": "alpha, as a number" });
  const smooth = h("input", { type: "checkbox", onchange: () => set(model, "smooth", smooth.checked) });
  const groups = h("select", { onchange: () => set(model, "group", groups.value) });
  const says = h("output", { class: "qw-detail", "aria-live": "polite" });
  const preview = h("div", { class: "qw-strips" });
  const measured = h("div", { class: "qw-measured-box" });

  let shown = 0.5;
  const preset = (value) => {
    shown = value;
    slider.value = number.value = value;
    slider.setAttribute("aria-valuetext", `alpha ${figure(value)}`);
    drawPreview();
  };
  slider.addEventListener("input", () => preset(Number(slider.value)));
  number.addEventListener("input", () => number.value !== "" && number.checkValidity() && preset(Number(number.value)));
  for (const control of [slider, number]) {
    control.addEventListener("change", () => {
      const value = Number(control.value);
      set(model, "alpha", value); // a value out of range is refused by the kernel, which says why
    });
  }

  function prepare() {
    x = floats(model.get("absmax"));
    w = floats(model.get("weight_absmax"));
    curves = null;
    if (x.length !== w.length || !x.length) return;
    ranked = order(x);
    const after = STEPS.map((alpha) => smoothed(x, w, alpha));
    curves = {
      activation: after.map((pair) => difficulty(pair.x)), weight: after.map((pair) => difficulty(pair.w)),
      x: limits(x, after[0].x, after.at(-1).x), w: limits(w, after[0].w, after.at(-1).w),
    };
  }

  function strip(name, title, before, after, y) {
    const ranks = ranked.map((_, i) => i + 1);
    const plot = chart({
      label: `${title}, by rank of the activation before smoothing`, width: 440, height: 170,
      x: [1, Math.max(2, x.length)], xLog: true, y, yLog: true, xTicks: rankTicks(x.length),
      xLabel: "channel, by rank of its activation before", yLabel: "absolute maximum",
    });
    plot.frame.dataset.strip = name;
    line(plot, "before", ranks, ranked.map((c) => before[c]));
    line(plot, name, ranks, ranked.map((c) => after[c]), { "data-order": ranked.slice(0, 32).join(" ") });
    return h("figure", {}, h("figcaption", {}, title), plot.frame);
  }

  function drawPreview() {
    if (!curves) {
      preview.replaceChildren(h("p", {}, "No statistics yet. Load a model first."));
      says.textContent = "";
      return;
    }
    const alpha = model.get("smooth") ? shown : null;
    const after = alpha === null ? { x, w } : smoothed(x, w, alpha);
    const hard = { x: difficulty(after.x), w: difficulty(after.w) };
    const plot = chart({
      label: "Largest over median channel against alpha, for activations and weights", width: 440, height: 170,
      x: [0, 1], y: limits(curves.activation, curves.weight, [1]), yLog: true,
      xTicks: [0, 0.25, 0.5, 0.75, 1].map((v) => [v, String(v)]), xLabel: "alpha", yLabel: "largest / median",
    });
    plot.frame.dataset.strip = "difficulty";
    line(plot, "activation", STEPS, curves.activation);
    line(plot, "weight", STEPS, curves.weight);
    if (alpha !== null) {
      const at = plot.at.x(alpha);
      plot.frame.append(svg("line", { class: "qw-now", x1: at, x2: at, y1: plot.range.y[0], y2: plot.range.y[1], "data-alpha": alpha }));
    }
    preview.replaceChildren(
      strip("activation", "Activations after, x / s", x, after.x, curves.x),
      strip("weight", "Weights after, w × s", w, after.w, curves.w),
      h("figure", {}, h("figcaption", {}, "Difficulty: largest over median channel"), plot.frame),
    );
    Object.assign(says.dataset, { alpha: alpha ?? "", activation: hard.x, weight: hard.w });
    says.textContent = `${alpha === null ? "Not smoothed" : `At alpha ${figure(alpha)}`}: the largest activation channel is `
      + `${figure(hard.x)} times the median (${figure(difficulty(x))} before), the largest weight channel ${figure(hard.w)} `
      + `(${figure(difficulty(w))} before).`;
  }

  function drawMeasured() {
    const points = model.get("points").filter((point) => point.divergence !== null);
    if (!points.length) {
      measured.replaceChildren(h("p", {}, "Nothing measured for this recipe yet."));
      return;
    }
    const quantity = model.get("quantity");
    const off = -0.14; // the place of "no smoothing", left of the axis' 0
    const y = limits(points.map((point) => point.divergence));
    const plot = chart({
      label: `Measured ${quantity} of the quantized model from the float one, against alpha`, width: 440, height: 190,
      x: [off - 0.06, 1.03], y, yLog: true, xLabel: "alpha", yLabel: quantity,
      xTicks: [[off, "off"], ...[0, 0.25, 0.5, 0.75, 1].map((v) => [v, String(v)])],
    });
    plot.frame.dataset.strip = "measured";
    for (const { alpha, divergence, perplexity } of points) {
      const also = perplexity === null ? "" : `, perplexity ${figure(perplexity, 4)}`;
      plot.frame.append(svg("circle", {
        class: "qw-measured", cx: plot.at.x(alpha ?? off), cy: plot.at.y(Math.max(divergence, y[0])), r: 4.5,
        "data-alpha": alpha ?? "off",
      }, svg("title", {}, `alpha ${alpha ?? "off"}: ${quantity} ${figure(divergence)}${also}`)));
    }
    const columns = ["Alpha", quantity, "Perplexity"].slice(0, points[0].perplexity === null ? 2 : 3);
    measured.replaceChildren(
      plot.frame,
      h("details", {}, h("summary", {}, "As a table"), table("Distance of the quantized model from the float one, measured",
        columns.map((label) => [label, true]), points.map(({ alpha, divergence, perplexity }) =>
          [alpha === null ? "off" : figure(alpha), figure(divergence), figure(perplexity, 4)].slice(0, columns.length)))),
    );
  }

  model.on("change:alpha", () => preset(model.get("alpha")));
  follow(model, ["groups", "group"], () => options(groups, model.get("groups").map((name) => [name, brief(name)]), model.get("group")));
  follow(model, ["absmax", "weight_absmax"], soon(() => { prepare(); drawPreview(); }));
  follow(model, ["smooth"], () => {
    smooth.checked = model.get("smooth");
    slider.disabled = number.disabled = !smooth.checked;
    drawPreview();
  });
  follow(model, ["points", "quantity"], soon(drawMeasured));
  preset(model.get("alpha"));

  card(model, el, "alpha", "Alpha: from activations to weights",
    h("div", { class: "qw-row" }, field("Smooth", smooth), field("Alpha", slider), number, field("Input of", groups)),
    h("h4", {}, "Predicted ", h("small", {}, "arithmetic on the statistics, in this page; no forward pass")),
    preview, legend(["activation", "activations"], ["weight", "weights"], ["before", "before smoothing"]), says,
    h("h4", {}, "Measured ", h("small", {}, "distance from the float model, quantized anew for each alpha; less is better")),
    h("div", { class: "qw-row" }, button(model, "measure", "Measure", "Quality of the quantized model for a few alphas")),
    jobBar(model), measured);
}
export default { render };
