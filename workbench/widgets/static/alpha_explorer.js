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

/** The alpha at which activations and weights are equally difficult; null if there is none. */
function balance(x, w) {
  const gap = (alpha) => {
    const after = smoothed(x, w, alpha);
    return Math.log(difficulty(after.x)) - Math.log(difficulty(after.w));
  };
  let [low, high] = [0, 1];
  if (!(gap(low) >= 0 && gap(high) <= 0)) return null;
  for (let i = 0; i < 24; i++) {
    const middle = (low + high) / 2;
    if (gap(middle) > 0) low = middle;
    else high = middle;
  }
  return (low + high) / 2;
}

const STEPS = Array.from({ length: 51 }, (_, i) => i / 50);

function render({ model, el }) {
  let [x, w, ranked, curves, equal] = [[], [], [], null, null];
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
    equal = balance(x, w);
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
    if (equal !== null) {
      const [ex, ey] = [plot.at.x(equal), plot.at.y(difficulty(smoothed(x, w, equal).x))];
      plot.frame.append(svg("path", { class: "qw-equal", d: `M${ex} ${ey - 6}l6 6l-6 6l-6 -6Z`, "data-alpha": equal },
        svg("title", {}, `equally difficult at alpha ${figure(equal)}`)));
    }
    preview.replaceChildren(
      strip("activation", "Activations after, x / s", x, after.x, curves.x),
      strip("weight", "Weights after, w × s", w, after.w, curves.w),
      h("figure", {}, h("figcaption", {}, "Difficulty: largest over median channel"), plot.frame),
    );
    Object.assign(says.dataset, { alpha: alpha ?? "", activation: hard.x, weight: hard.w, equal: equal ?? "" });
    says.textContent = `${alpha === null ? "Not smoothed" : `At alpha ${figure(alpha)}`}: the largest activation channel is `
      + `${figure(hard.x)} times the median (${figure(difficulty(x))} before), the largest weight channel ${figure(hard.w)} `
      + `(${figure(difficulty(w))} before)${equal === null ? "." : `; equal at alpha ${figure(equal)} ◆.`}`;
  }

  function drawMeasured() {
    const points = model.get("points").filter((point) => point.value !== null);
    if (!points.length) {
      measured.replaceChildren(h("p", {}, "Nothing measured for this recipe yet."));
      return;
    }
    const [reference, quantity] = [model.get("reference"), model.get("quantity")];
    const off = -0.14; // the place of "no smoothing", left of the axis' 0
    const all = points.map((point) => point.value).concat(reference > 0 ? reference : []);
    const [low, high] = [Math.min(...all), Math.max(...all)];
    const plot = chart({
      label: `Measured ${quantity} of the quantized model against alpha`, width: 440, height: 190,
      x: [off - 0.06, 1.03], y: [low / 1.06, high * 1.1], yLog: true, xLabel: "alpha", yLabel: quantity,
      xTicks: [[off, "off"], ...[0, 0.25, 0.5, 0.75, 1].map((v) => [v, String(v)])],
    });
    plot.frame.dataset.strip = "measured";
    if (reference > 0) line(plot, "float", [off - 0.06, 1.03], [reference, reference], { "data-value": reference });
    for (const { alpha, value } of points) {
      plot.frame.append(svg("circle", {
        class: "qw-measured", cx: plot.at.x(alpha ?? off), cy: plot.at.y(value), r: 4.5,
        "data-alpha": alpha ?? "off", "data-value": value,
      }, svg("title", {}, `alpha ${alpha ?? "off"}: ${quantity} ${figure(value, 4)}`)));
    }
    measured.replaceChildren(
      plot.frame,
      legend(["measured", "measured, quantized"], ...(reference > 0 ? [["float", "measured, float"]] : [])),
      h("details", {}, h("summary", {}, "As a table"), table(`Measured ${quantity}`, [["Alpha", true], [quantity, true]],
        points.map((point) => [point.alpha === null ? "off" : figure(point.alpha), figure(point.value, 4)]))),
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
  follow(model, ["points", "quantity", "reference"], soon(drawMeasured));
  preset(model.get("alpha"));

  card(model, el, "alpha", "Alpha: from activations to weights",
    h("div", { class: "qw-row" }, field("Smooth", smooth), field("Alpha", slider), number, field("Input of", groups)),
    h("h4", {}, "Predicted ", h("small", {}, "arithmetic on the statistics, in this page; no forward pass")),
    preview, legend(["activation", "activations"], ["weight", "weights"], ["before", "before smoothing"], ["equal", "both equal"]), says,
    h("h4", {}, "Measured ", h("small", {}, "quantized, calibrated and evaluated for each alpha")),
    h("div", { class: "qw-row" }, button(model, "measure", "Measure", "Quality of the quantized model for a few alphas")),
    jobBar(model), measured);
}
export default { render };
