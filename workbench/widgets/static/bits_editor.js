// One row of widths for each layer. Size and predicted damage are sums over the rows, done here, so
// that a click shows them before the kernel has heard of it.

const CHOICES = ["16", "8", "6", "4", "3", "2", "skip"];
const PAD = 1.25;

/** Whether a shell-style pattern matches, as Python's fnmatch has it. */
function matches(name, pattern) {
  const source = pattern.replace(/\[!?\]?[^\]]*\]|[.+^${}()|\\[\]*?]/g, (part) => {
    if (part === "*") return ".*";
    if (part === "?") return ".";
    if (part.length > 2 && part.startsWith("[")) return `[${part[1] === "!" ? "^" : ""}${part.slice(part[1] === "!" ? 2 : 1, -1).replace(/[\\\]^]/g, "\\$&")}]`;
    return `\\${part}`;
  });
  try {
    return new RegExp(`^${source}$`, "s").test(name);
  } catch {
    return false;
  }
}

/** Patterns worth offering: all, each block, each kind of layer. */
function patternsOf(names) {
  const found = new Map([["*", names.length]]);
  for (const name of names) {
    const parts = name.split(".");
    const kind = `*.${parts.at(-1)}`;
    const number = parts.findIndex((part) => /^\d+$/.test(part));
    const some = [kind, number > 0 ? `${parts.slice(0, number + 1).join(".")}.*` : null,
      parts.length > 2 ? `*.${parts.at(-2)}.*` : null];
    for (const pattern of some.filter(Boolean)) found.set(pattern, (found.get(pattern) ?? 0) + 1);
  }
  return [...found].filter(([, count]) => count > 1).map(([pattern]) => pattern);
}

function render({ model, el }) {
  let chosen = {};
  let order = [];
  const body = h("tbody");
  const total = h("p", { class: "qw-total", "aria-live": "polite" });
  const front = h("div", { class: "qw-front" });
  const asTable = h("div");
  const lost = h("p", { class: "qw-note" });

  const key = (name) => (chosen[name] === null ? "skip" : String(chosen[name]));
  const size = (row, choice) => (choice === "skip" ? row.float_bytes : row.bytes[choice] ?? row.float_bytes);
  const damage = (row, choice) => (choice === "skip" ? 0 : row.damage[choice] ?? null);
  const perByte = (row) => {
    const saved = row.float_bytes - size(row, key(row.name));
    const found = damage(row, key(row.name));
    return found === null ? null : saved > 0 ? found / saved : 0;
  };

  function choose(pattern, choice) {
    const bits = choice === "skip" ? null : Number(choice);
    for (const row of model.get("rows")) if (Object.keys(row.bytes).length && matches(row.name, pattern)) chosen[row.name] = bits;
    update();
    model.send({ call: "set_bits", arguments: [pattern, bits] });
  }

  function rank() {
    const rows = model.get("rows");
    order = rows.map((_, i) => i);
    if (model.get("sort") === "error" && model.get("measure_of")) {
      order.sort((a, b) => (perByte(rows[b]) ?? -1) - (perByte(rows[a]) ?? -1) || a - b);
    }
  }

  function segment(row, choice) {
    const why = choice === "skip" ? "" : row.refused[choice] ?? "";
    const found = choice === "skip" ? null : damage(row, choice);
    const words = choice === "skip" ? "left in float" : `${choice} bits`;
    const title = why || `${words}: ${bytes(size(row, choice))}${found === null ? "" : `, predicted damage ${figure(found)}`}`;
    return h("button", {
      type: "button", role: "radio", "data-call": "set_bits", "data-bits": choice, "aria-disabled": String(Boolean(why)),
      "data-damage": found ?? "", title, "aria-label": `${row.name}, ${title}`,
      onclick: () => !why && choose(row.name, choice),
    }, h("b", {}, choice), h("small", { "aria-hidden": "true" }, why || found === null ? "" : figure(found, 2)));
  }

  function keys(event) {
    const here = event.target.closest("[role=radio]");
    if (!here) return;
    const sideways = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const upright = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
    let next = null;
    if (sideways) {
      const all = [...here.parentNode.children];
      next = all[(all.indexOf(here) + sideways + all.length) % all.length];
    } else if (upright) {
      next = here.closest("tr")[upright]?.querySelector(`[data-bits="${here.dataset.bits}"]`);
    } else return;
    event.preventDefault();
    event.stopPropagation();
    next?.focus();
  }

  function build() {
    const rows = model.get("rows");
    const focused = body.contains(document.activeElement) ? [document.activeElement.closest("tr").dataset.layer, document.activeElement.dataset.bits] : null;
    rank();
    body.replaceChildren(...order.map((i) => {
      const row = rows[i];
      return h("tr", { "data-layer": row.name, "data-group": row.group, onclick: () => row.group && set(model, "group", row.group) },
        h("th", { scope: "row" }, brief(row.name).split(/(?<=\.)/).flatMap((part) => [part, h("wbr")])),
        h("td", {}, h("div", { class: "qw-segments", role: "radiogroup", "aria-label": `bits of ${row.name}`, onkeydown: keys },
          CHOICES.map((choice) => segment(row, choice)))),
        h("td", { class: "qw-number", "data-key": "bytes" }), h("td", { class: "qw-number", "data-key": "per-byte" }));
    }));
    if (!rows.length) body.append(h("tr", {}, h("td", { colspan: 4 }, "Load a model to see its layers.")));
    update();
    mark();
    if (focused) body.querySelector(`[data-layer="${CSS.escape(focused[0])}"] [data-bits="${focused[1]}"]`)?.focus();
  }

  /** Mark the choice of one row; rows that keep theirs are left alone, for there may be many. */
  function show(tr, row, choice, rate) {
    tr.dataset.choice = choice;
    for (const node of tr.querySelectorAll("[role=radio]")) {
      const on = node.dataset.bits === choice;
      node.setAttribute("aria-checked", String(on));
      node.tabIndex = on || (!choice && node.dataset.bits === "8") ? 0 : -1;
    }
    tr.querySelector("[data-key=bytes]").textContent = bytes(size(row, choice));
    const cell = tr.querySelector("[data-key=per-byte]");
    cell.textContent = rate === null ? "–" : rate === 0 ? "0" : figure(rate * 1e6, 2);
    cell.dataset.value = rate ?? "";
  }

  function update() {
    const rows = Object.fromEntries(model.get("rows").map((row) => [row.name, row]));
    const known = Object.keys(chosen).length > 0;
    let [now, whole, harm, bits, weights, missing] = [model.get("other_bytes"), model.get("other_bytes"), 0, 0, 0, 0];
    for (const tr of body.querySelectorAll("tr[data-layer]")) {
      const row = rows[tr.dataset.layer];
      if (!row) continue;
      const able = Object.keys(row.bytes).length > 0;
      const choice = !able ? "skip" : known ? key(row.name) : "";
      const found = damage(row, choice);
      if (tr.dataset.choice !== choice) show(tr, row, choice, known ? perByte(row) : null);
      now += size(row, choice);
      whole += row.float_bytes;
      if (choice !== "skip") {
        if (found === null) missing += 1;
        harm += found ?? 0;
        bits += Number(choice) * row.parameters;
        weights += row.parameters;
      }
    }
    Object.assign(total.dataset, { bytes: now, damage: model.get("measure_of") && !missing ? harm : "" });
    if (!body.querySelector("tr[data-layer]")) total.textContent = "";
    else if (!known) total.textContent = "The recipe leaves the bits to a budget (auto): they are found when it is built. Allocate to see them here.";
    else {
      const parts = [h("b", {}, bytes(now)), ` of weights, ${figure(whole / now)} times smaller than ${bytes(whole)} in float; ${weights ? figure(bits / weights) : "no"} bits in the mean`];
      if (model.get("measure_of") && !missing) parts.push("; predicted damage of rounding the weights: ", h("b", {}, figure(harm)), model.get("measure_of") === "kl" ? " nats a token" : " (relative error)");
      total.replaceChildren(...parts);
    }
    drawFront(known && model.get("measure_of") && !missing ? { bytes: now, error: harm } : null);
  }

  function mark() {
    for (const tr of body.querySelectorAll("tr[data-layer]")) {
      tr.classList.toggle("qw-chosen", Boolean(tr.dataset.group) && tr.dataset.group === model.get("group"));
    }
  }

  const restore = (point) => model.send({ call: "restore", arguments: [point.key] });
  const told = (point) => point.kind === "measured"
    ? `measured on ${point.samples.toLocaleString("en")} samples, seed ${point.seed}, ${point.made}: ${point.label}`
    : `predicted, weights only: ${point.label}`;

  function drawFront(now) {
    const time = model.get("axis") === "time";
    const where = time ? "ms" : "bytes";
    const float = model.get("float_point");
    const points = model.get("points").filter((point) => point[where] !== null && point.error !== null);
    if (!float.bytes || (time && float.ms === null) || (!points.length && !now)) {
      front.replaceChildren(h("p", {}, time && float.bytes ? "No time measured yet: press Measure." : "No point yet: Predict, or Measure, to see what size costs."));
      asTable.replaceChildren();
      return;
    }
    const scale = time ? 1 : 1e6;
    const measured = points.find((point) => point.kind === "measured");
    const unit = (measured ? measured.perplexity !== null : model.get("measure_of") === "kl") ? "KL from float, nats a token" : "1 − cosine; predicted: relative error";
    const xs = [...points.map((point) => point[where]), float[where], ...(now && !time ? [now.bytes] : [])].map((v) => v / scale);
    const span = Math.max(...xs) - Math.min(...xs) || 1;
    const errors = [...points.map((point) => point.error), ...(now && !time ? [now.error] : [])];
    const [low, high] = limits(errors);
    const y = [low / 3, high * PAD];
    const plot = chart({
      label: `Error against ${time ? "time" : "size"}: predicted points hollow, measured points solid, the float model a square`,
      width: 640, height: 270, x: [Math.max(0, Math.min(...xs) - 0.05 * span), Math.max(...xs) + 0.05 * span], y, yLog: true,
      xLabel: time ? "prefill, ms (median)" : "weights, MB", yLabel: unit,
    });
    plot.frame.dataset.strip = "front";
    plot.frame.setAttribute("role", "group");
    const predicted = points.filter((point) => point.kind === "predicted").sort((a, b) => a[where] - b[where]);
    if (predicted.length > 1) line(plot, "median", predicted.map((p) => p[where] / scale), predicted.map((p) => p.error));
    const at = (point) => [plot.at.x(point[where] / scale), plot.at.y(Math.max(point.error, y[0]))];
    for (const point of points) {
      const [cx, cy] = at(point);
      const text = `${bytes(point.bytes)}${point.ms === null ? "" : `, ${figure(point.ms)} ms`}, error ${figure(point.error)}; ${told(point)}. Press to restore its recipe.`;
      if (point.current) plot.frame.append(svg("circle", { class: "qw-ring", cx, cy, r: 8.5 }));
      plot.frame.append(svg("circle", {
        class: point.kind === "measured" ? "qw-measured qw-point" : "qw-predicted qw-point", cx, cy, r: 5, tabindex: 0, role: "button",
        "aria-label": text, "data-key": point.key, "data-kind": point.kind, "data-call": "restore", "data-lm-suppress-shortcuts": true,
        onclick: () => restore(point),
        onkeydown: (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); event.stopPropagation(); restore(point); } },
      }, svg("title", {}, text)));
    }
    if (now && !time) {
      const [x, yy] = [plot.at.x(now.bytes / 1e6), plot.at.y(Math.max(now.error, y[0]))];
      plot.frame.append(svg("path", { class: "qw-predicted qw-here", "data-kind": "now", d: `M${x} ${yy - 7}L${x + 7} ${yy}L${x} ${yy + 7}L${x - 7} ${yy}Z` }, svg("title", {}, `the bits as they are now, predicted: ${figure(now.error)}`)));
    }
    const base = [plot.at.x(float[where] / scale), plot.range.y[0]];
    plot.frame.append(
      svg("rect", { class: "qw-float", "data-kind": "float", x: base[0] - 5, y: base[1] - 5, width: 10, height: 10 }, svg("title", {}, "the float model: no error, by definition")),
      svg("text", { class: "qw-label", x: base[0] - 9, y: base[1] - 6, "text-anchor": "end" }, "float, error 0"));
    front.replaceChildren(plot.frame);
    asTable.replaceChildren(h("details", {}, h("summary", {}, "As a table"), (() => {
      const made = table("Points of the front; predicted and measured are different things",
        [["Kind", false], ["MB", true], ["Prefill ms", true], ["Error", true], ["What", false], ["", false]],
        [["float", figure(float.bytes / 1e6), float.ms === null ? "–" : figure(float.ms), "0", "the model as it was loaded", ""],
          ...points.map((point) => [point.kind, figure(point.bytes / 1e6), point.ms === null ? "–" : figure(point.ms), figure(point.error), told(point),
            h("button", { type: "button", "data-call": "restore", onclick: () => restore(point), "aria-label": `Restore ${told(point)}` }, "Restore")])]);
      made.classList.add("qw-wrapping");
      return h("div", { class: "qw-scroll" }, made);
    })()));
  }

  // Bulk edits, with the number of layers that a pattern matches.
  const list = h("datalist", { id: unique("patterns") });
  const pattern = h("input", { type: "text", list: list.id, value: "*", spellcheck: "false", oninput: () => count() });
  const width = h("select", {}, CHOICES.slice(1).map((choice) => h("option", { value: choice }, choice === "skip" ? "skip (float)" : `${choice} bits`)));
  const hits = h("span", { class: "qw-detail", role: "status" });
  const apply = h("button", { type: "button", "data-call": "set_bits", onclick: () => choose(pattern.value, width.value) }, "Set");
  const count = () => {
    const found = model.get("rows").filter((row) => Object.keys(row.bytes).length && matches(row.name, pattern.value)).length;
    hits.textContent = `matches ${found} layer${found === 1 ? "" : "s"}`;
    apply.disabled = !found;
  };
  const menu = (name, values) => {
    const node = h("select", { onchange: () => set(model, name, node.value) });
    follow(model, [name], () => options(node, values, model.get(name)));
    return node;
  };
  const budget = h("input", { type: "number", min: 0, step: "any", onchange: () => set(model, "budget", budget.valueAsNumber || 0) });
  follow(model, ["budget"], () => { budget.value = model.get("budget"); });

  model.on("change:bits", () => { chosen = { ...model.get("bits") }; update(); });
  model.on("change:group", mark);
  model.on("change:sort", build);
  follow(model, ["rows", "measure_of", "other_bytes"], soon(() => {
    chosen = { ...model.get("bits") };
    list.replaceChildren(...patternsOf(model.get("rows").map((row) => row.name)).map((value) => h("option", { value })));
    count();
    build();
  }));
  follow(model, ["points", "float_point", "axis"], soon(update));
  follow(model, ["history"], () => { lost.textContent = model.get("history"); lost.hidden = !model.get("history"); });

  const again = h("button", { type: "button", onclick: build, title: "Rows keep their places while you edit" }, "Sort again");
  card(model, el, "bits", "Bits, layer by layer",
    h("div", { class: "qw-row" }, field("Layers like", pattern, "A shell-style pattern over names"), field("get", width), apply, hits, list,
      h("span", { class: "qw-spring" }), undoButtons(model), field("Sorted by", menu("sort", [["error", "damage per byte saved"], ["order", "order in the model"]])), again,
      field("Scales", menu("scales", [["channel", "one for each output"], ["group", "one for each group"], ["affine group", "a group's, with zero point"]]))),
    h("div", { class: "qw-split qw-roomy" },
      h("div", {},
        h("div", { class: "qw-scroll qw-tall" }, h("table", { class: "qw-table qw-bits-table" },
          h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Layer"), h("th", { scope: "col" }, "Bits, with predicted damage"), h("th", { scope: "col", class: "qw-number" }, "Size"), h("th", { scope: "col", class: "qw-number", title: "Predicted damage for each MB saved" }, "Damage / MB saved"))),
          body)), total),
      h("div", {},
        h("div", { class: "qw-row" },
          button(model, "predict", "Predict", "Sensitivity of the output to each width of each layer: one pass over the calibration data"),
          field("At most", budget), field("of", menu("budget_kind", [["MB", "MB in all"], ["mean bits", "bits in the mean"]])),
          button(model, "allocate", "Allocate", "Choose the bits of least predicted damage within the limit"),
          button(model, "measure_recipe", "Measure", "Quality and speed of the recipe as it is, against the float model"),
          field("Front over", menu("axis", [["size", "size"], ["time", "time"]]))),
        jobBar(model), front,
        h("ul", { class: "qw-legend" },
          [["qw-predicted", "predicted (weights only)"], ["qw-measured", "measured"]].map(([name, label]) => h("li", {},
            svg("svg", { viewBox: "0 0 14 14", width: 14, height: 14, "aria-hidden": "true" }, svg("circle", { class: name, cx: 7, cy: 7, r: 5 })), label)),
          h("li", {}, svg("svg", { viewBox: "0 0 16 16", width: 16, height: 16, "aria-hidden": "true" }, svg("path", { class: "qw-predicted qw-here", d: "M8 1L15 8L8 15L1 8Z" })), "these bits, predicted"),
          h("li", {}, svg("svg", { viewBox: "0 0 12 12", width: 12, height: 12, "aria-hidden": "true" }, svg("rect", { class: "qw-float", x: 1, y: 1, width: 10, height: 10 })), "float")),
        asTable, lost)));
}
