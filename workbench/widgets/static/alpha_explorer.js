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
  const only = h("input", { type: "checkbox", onchange: () => set(model, "only", only.checked) });
  const release = h("input", { type: "checkbox", onchange: () => set(model, "on_release", release.checked) });
  const own = h("p", { class: "qw-detail" });
  const measured = h("figure");
  const local = h("figure");
  const swept = h("figure");

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
      before: { x: difficulty(x), w: difficulty(w) },
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
      preview.replaceChildren(h("p", {}, "No statistics yet for this recipe: load a model, or gather them under Observe."));
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
      + `${figure(hard.x)} times the median (${figure(curves.before.x)} before), the largest weight channel ${figure(hard.w)} `
      + `(${figure(curves.before.w)} before).`;
  }

  function drawMeasured() {
    const points = model.get("points").filter((point) => point.divergence !== null);
    const title = h("figcaption", {}, "The whole model, quantized anew for each alpha");
    if (!points.length) {
      measured.replaceChildren(title, h("p", {}, "Nothing measured for this recipe yet."));
      return;
    }
    const quantity = model.get("quantity");
    const y = limits(points.map((point) => point.divergence));
    const plot = alphaChart("measured", `Measured ${quantity} of the quantized model from the float one, against alpha`, y, true, quantity);
    for (const { alpha, divergence, perplexity } of points) {
      const also = perplexity === null ? "" : `, perplexity ${figure(perplexity, 4)}`;
      dot(plot, alpha, Math.max(divergence, y[0]), `alpha ${alpha ?? "off"}: ${quantity} ${figure(divergence)}${also}`);
    }
    const columns = ["Alpha", quantity, "Perplexity"].slice(0, points[0].perplexity === null ? 2 : 3);
    measured.replaceChildren(title, plot.frame, asTable("Distance of the quantized model from the float one, measured", columns,
      points.map(({ alpha, divergence, perplexity }) => [alpha === null ? "off" : figure(alpha), figure(divergence), figure(perplexity, 4)].slice(0, columns.length))));
  }

  const OFF = -0.14; // the place of "no smoothing", left of the axis' 0

  function alphaChart(name, label, y, yLog, yLabel) {
    const plot = chart({
      label, width: 440, height: 190, x: [OFF - 0.06, 1.03], y, yLog, xLabel: "alpha", yLabel,
      xTicks: [[OFF, "off"], ...[0, 0.25, 0.5, 0.75, 1].map((v) => [v, String(v)])],
    });
    plot.frame.dataset.strip = name;
    return plot;
  }

  const dot = (plot, alpha, value, text) => plot.frame.append(svg("circle", {
    class: "qw-measured", cx: plot.at.x(alpha ?? OFF), cy: plot.at.y(value), r: 4.5, "data-alpha": alpha ?? "off",
  }, svg("title", {}, text)));

  const asTable = (caption, columns, rows) => h("details", {}, h("summary", {}, "As a table"),
    table(caption, columns.map((label) => [label, true]), rows));

  function drawLocal() {
    const found = model.get("errors").filter((error) => error.sqnr_db !== null);
    const title = h("figcaption", {}, "The layers that read this input");
    if (!found.length) {
      local.replaceChildren(title, h("p", {}, "Move alpha and let go: the error of these layers is measured on tokens of the calibration data."));
      return;
    }
    const values = found.map((error) => error.sqnr_db);
    const room = Math.max(1, 0.1 * (Math.max(...values) - Math.min(...values)));
    const label = "SQNR, dB (more is better)";
    const plot = alphaChart("local", `Measured ${label} of the outputs of the layers that read this input, against alpha`,
      [Math.min(...values) - room, Math.max(...values) + room], false, label);
    for (const { alpha, sqnr_db, tokens } of found) dot(plot, alpha, sqnr_db, `alpha ${alpha ?? "off"}: ${figure(sqnr_db)} dB on ${tokens} tokens`);
    local.replaceChildren(title, plot.frame, asTable("Signal to noise of these layers' outputs, measured", ["Alpha", "SQNR dB", "Tokens"],
      found.map(({ alpha, sqnr_db, tokens }) => [alpha === null ? "off" : figure(alpha), figure(sqnr_db), String(tokens)])));
  }

  function drawSuggestion() {
    const found = model.get("suggestion");
    const title = h("figcaption", {}, "The sweep behind the suggestion, for this input");
    if (!found.alphas) {
      swept.replaceChildren(title, h("p", {}, "Suggest tries each alpha on each input and shows here what it found."));
      return;
    }
    const kinds = [["linear", "activation", "its layers"], ["block", "weight", "the block around"]].filter(([kind]) => found[kind].some((v) => v !== null));
    const plot = alphaChart("suggestion", "Measured relative squared error against alpha, for the layers that read this input and for the block around them",
      limits(...kinds.map(([kind]) => found[kind].filter((v) => v !== null))), true, "relative squared error");
    for (const [kind, colour] of kinds) line(plot, colour, found.alphas, found[kind], { "data-kind": kind });
    const at = plot.at.x(found.chosen);
    plot.frame.append(
      svg("line", { class: "qw-now", x1: at, x2: at, y1: plot.range.y[0], y2: plot.range.y[1], "data-alpha": found.chosen }),
      svg("text", { class: "qw-label", x: at + (found.chosen > 0.75 ? -4 : 4), y: plot.range.y[1] + 10, "text-anchor": found.chosen > 0.75 ? "end" : "start" }, `suggested ${figure(found.chosen)}`));
    const use = h("button", { type: "button", "data-call": "use", disabled: found.used, onclick: () => call(model, "use") }, found.used ? "In use" : "Use for all inputs");
    swept.replaceChildren(title, plot.frame, legend(...kinds.map(([, colour, label]) => [colour, label])),
      h("div", { class: "qw-row" }, use, h("span", { class: "qw-detail" }, `best single alpha ${figure(found.single)}`)),
      asTable("Relative squared error by alpha, measured", ["Alpha", "Its layers", "Block"], found.alphas.map((alpha, i) => [figure(alpha), figure(found.linear[i]), figure(found.block[i])])),
      Object.keys(found.candidates).length ? asTable("Damage to the whole model of each candidate, measured", ["Candidate", "Damage"], Object.entries(found.candidates).map(([name, value]) => [name, figure(value)])) : "");
  }

  function drawOwn() {
    const entries = Object.entries(model.get("own"));
    const parts = [];
    if (model.get("automatic")) parts.push("The recipe searches alphas when it is built (auto); moving the slider sets one instead.");
    if (entries.length) parts.push(`Own alpha: ${entries.map(([name, alpha]) => `${brief(name)} ${alpha === null ? "off" : figure(alpha)}`).join("; ")}.`);
    own.textContent = parts.join(" ");
    own.hidden = !parts.length;
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
  follow(model, ["errors"], soon(drawLocal));
  follow(model, ["suggestion"], soon(drawSuggestion));
  follow(model, ["own", "automatic"], drawOwn);
  follow(model, ["only"], () => { only.checked = model.get("only"); });
  follow(model, ["on_release"], () => { release.checked = model.get("on_release"); });
  preset(model.get("alpha"));

  card(model, el, "alpha", "Alpha: from activations to weights",
    h("div", { class: "qw-row" }, field("Smooth", smooth), field("Alpha", slider), number, field("Input of", groups),
      field("Only this input", only, "Give this input an alpha of its own, whatever the others have")),
    own,
    h("h4", {}, "Predicted ", h("small", {}, "arithmetic on the statistics, in this page; no forward pass")),
    preview, legend(["activation", "activations"], ["weight", "weights"], ["before", "before smoothing"]), says,
    h("h4", {}, "Measured ", h("small", {}, "rounded and run; for the whole model as distance from the float one, less is better")),
    h("div", { class: "qw-row" }, button(model, "measure", "Measure", "Quality of the quantized model for a few alphas"),
      button(model, "suggest", "Suggest", "Search an alpha for each input by the error that rounding leaves"),
      field("Measure on release", release, "Measure these layers whenever alpha is changed")),
    jobBar(model), h("div", { class: "qw-strips" }, local, measured, swept));
}
