function render({ model, el }) {
  const number = (name, least, step) => {
    const node = h("input", { type: "number", min: least, step, onchange: () => set(model, name, step === 1 ? Math.trunc(node.valueAsNumber) || 0 : node.valueAsNumber || 0) });
    follow(model, [name], () => { node.value = model.get(name); });
    return node;
  };
  const distil = h("input", { type: "checkbox", onchange: () => set(model, "distil", distil.checked) });
  follow(model, ["distil"], () => { distil.checked = model.get("distil"); });
  const advice = h("p", { class: "qw-note", role: "status" });
  follow(model, ["advice", "offered"], () => {
    advice.textContent = `${model.get("offered") ? "▲ " : ""}${model.get("advice")}`;
    advice.dataset.offered = model.get("offered");
  });
  const pause = h("button", { type: "button", "data-call": "pause", onclick: () => call(model, "pause") }, "❚❚ Pause");
  const resume = h("button", { type: "button", "data-call": "resume", onclick: () => call(model, "resume") }, "▶ Resume");
  const drop = h("button", { type: "button", "data-call": "drop", title: "Take training out of the recipe", onclick: () => call(model, "drop") }, "Take out of the recipe");
  follow(model, ["job", "paused"], () => {
    const job = model.get("job");
    const running = Boolean(job.state) && job.verb === "train" && isActive(job);
    pause.hidden = !running || model.get("paused");
    resume.hidden = !running || !model.get("paused");
  });
  follow(model, ["planned", "job"], () => { drop.hidden = !model.get("planned"); drop.disabled = isActive(model.get("job")); });
  const curve = h("div");
  const says = h("p", { class: "qw-detail", "aria-live": "off" });

  function draw() {
    const losses = floats(model.get("losses"));
    const judged = Object.entries(model.get("judged")).map(([step, loss]) => [Number(step), loss]).filter(([, loss]) => loss !== null).sort((a, b) => a[0] - b[0]);
    if (!losses.length) {
      curve.replaceChildren(h("p", {}, "No training yet. Weights and scales learn with the rounding in the forward pass; the float model stays as it is."));
      says.textContent = "";
      return;
    }
    const all = [...losses, ...judged.map(([, loss]) => loss)];
    const total = Math.max(2, model.get("steps"), losses.length);
    const plot = chart({
      label: `Loss of ${losses.length} steps of training, and on held-out batches`, width: 640, height: 240,
      x: [0, total], y: limits(all), yLog: true, xLabel: "step", yLabel: "loss",
    });
    plot.frame.dataset.strip = "training";
    line(plot, "activation", Array.from(losses, (_, i) => i + 1), losses);
    if (judged.length > 1) line(plot, "weight", judged.map(([step]) => step), judged.map(([, loss]) => loss));
    for (const [step, loss] of judged) plot.frame.append(svg("circle", { class: "qw-measured", cx: plot.at.x(step), cy: plot.at.y(loss), r: 4, "data-step": step }, svg("title", {}, `after ${step} steps: ${figure(loss)} on held-out batches`)));
    const kept = model.get("kept");
    if (kept !== null) {
      const at = plot.at.x(kept);
      plot.frame.append(svg("line", { class: "qw-now", x1: at, x2: at, y1: plot.range.y[0], y2: plot.range.y[1], "data-kept": kept }),
        svg("text", { class: "qw-label", x: at + (kept > total / 2 ? -5 : 5), y: plot.range.y[1] + 10, "text-anchor": kept > total / 2 ? "end" : "start" }, `kept: step ${kept}`));
    }
    curve.replaceChildren(plot.frame, legend(["activation", "training batches"], ["weight", "held-out batches"]),
      h("details", {}, h("summary", {}, "As a table"), h("div", { class: "qw-scroll" }, table("Loss by step", [["Step", true], ["Training", true], ["Held out", true]],
        Array.from({ length: losses.length + 1 }, (_, step) => [String(step), step ? figure(losses[step - 1]) : "–", figure(model.get("judged")[step])])))));
    const best = judged.length ? judged.reduce((a, b) => (b[1] < a[1] ? b : a)) : null;
    says.textContent = `Step ${losses.length} of ${model.get("steps")}: loss ${figure(losses.at(-1))}.${best ? ` Best on held-out batches: ${figure(best[1])} after ${best[0]} steps${best[0] ? "" : ", which is before training"}.` : ""}`;
  }
  follow(model, ["losses", "judged", "kept", "steps"], soon(draw));

  card(model, el, "training", "Train, where the loss asks for it", advice,
    h("div", { class: "qw-row" }, field("Steps", number("steps", 1, 1)), field("Learning rate", number("learning_rate", 0, "any")),
      field("Batches held out", number("held_out", 0, 1), "Calibration batches that only judge which step is kept"),
      field("Float model teaches", distil, "The loss is the divergence from the float model; otherwise the model's own")),
    h("div", { class: "qw-row" }, button(model, "train", "Train", "Put training into the recipe, and train"), pause, resume, drop),
    jobBar(model), curve, says);
}
