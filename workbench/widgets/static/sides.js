// Two sides beside each other: the figures, what is more than chance, times, errors of layers, answers.
// A is a hollow circle and B a filled diamond everywhere, so that colour never tells alone.

const SHAPES = { a: "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0", b: "M0 -4.6L4.6 0L0 4.6L-4.6 0Z" };
const ANSWERED = {
  "causal-lm": { hint: "Both go on with this text, always with the likeliest token.", first: "Text to go on with", example: "def area(width, height):" },
  encoder: { hint: "How alike each side finds two texts: the cosine of their embeddings.", first: "First text", second: "Second text", example: "" },
  classifier: { hint: "The likeliest classes of this text.", first: "Text to classify", example: "" },
  "image-classifier": { hint: "The likeliest classes of a picture, which both see as the model's own processor cuts it.", picture: true },
};

const shape = (side, x, y, title, data = {}) =>
  svg("path", { class: `qw-side-${side}`, d: SHAPES[side], transform: `translate(${x.toFixed(2)} ${y.toFixed(2)})`, "data-side": side, ...data },
    title ? svg("title", {}, title) : null);

const sideLegend = (found) => h("ul", { class: "qw-legend" }, ["a", "b"].map((side) => h("li", {},
  svg("svg", { viewBox: "0 0 12 12", width: 12, height: 12, "aria-hidden": "true" }, shape(side, 6, 6)), `${side.toUpperCase()}: ${found[side]}`)));

const shownAsTable = (content) => h("details", { class: "qw-as-table" }, h("summary", {}, "Show as a table"), content);

function around(values, share = 0.08) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const room = (high - low || Math.abs(high) || 1) * share;
  return [low - room, high + room];
}

function sideFigures(found) {
  const sizes = ["bytes", "disk"];
  const shown = ({ key }, value) => (sizes.includes(key) ? bytes(value) : figure(value, 4));
  const change = ({ key, a, b }) => {
    if (a === null || b === null) return "–";
    if (sizes.includes(key)) return `× ${figure(b / a)}`;
    return `${b >= a ? "+" : ""}${figure(b - a)}`;
  };
  const node = table("Measured on the held-out data, and as saved", [["", false], ["A", true], ["B", true], ["From A to B", true]],
    found.rows.map((row) => [row.label, shown(row, row.a), shown(row, row.b), change(row)]));
  node.querySelectorAll("tbody tr").forEach((tr, i) => Object.assign(tr.dataset, { side: found.rows[i].key, a: found.rows[i].a ?? "", b: found.rows[i].b ?? "" }));
  return node;
}

function sideQuality({ quality }) {
  const { low, high, difference, metric } = quality;
  const plot = chart({
    label: `Change of ${metric} from A to B with its 95 % interval. ${quality.words}`, height: 84,
    x: around([low, high, 0], 0.15), y: [0, 1], yTicks: [], xLabel: `B − A: ${metric}`, yLabel: "",
  });
  plot.frame.dataset.chart = "quality";
  const [zero, y] = [plot.at.x(0), plot.at.y(0.5)];
  plot.frame.append(
    svg("line", { class: "qw-line qw-before", x1: zero, x2: zero, y1: plot.range.y[0], y2: plot.range.y[1] }),
    svg("text", { x: zero + 3, y: plot.range.y[1] + 8 }, "no difference"),
    svg("path", { class: "qw-line qw-now", "data-series": "interval", d: `M${plot.at.x(low).toFixed(3)} ${y}L${plot.at.x(high).toFixed(3)} ${y}` }),
    ...[low, high].map((v) => svg("line", { class: "qw-now", x1: plot.at.x(v), x2: plot.at.x(v), y1: y - 6, y2: y + 6 })),
    svg("circle", { class: "qw-float", cx: plot.at.x(difference), cy: y, r: 4, "data-value": difference }),
  );
  return h("figure", {}, h("figcaption", {}, "Quality, sequence by sequence"), plot.frame,
    h("p", { "data-words": "quality" }, quality.words),
    shownAsTable(table(metric, [["Sequences", true], ["B − A", true], ["95 % from", true], ["to", true]],
      [[String(quality.sequences), figure(difference), figure(low), figure(high)]])));
}

function sideLatency(entry, threads) {
  const rows = { a: 1.5, b: 0.5 };
  const plot = chart({
    label: `${entry.title}: every timing of A and B, with median and quartiles. ${entry.words}`, height: 130,
    x: around([...entry.a.samples, ...entry.b.samples]), y: [0, 2], yTicks: [[1.5, "A"], [0.5, "B"]], xLabel: "milliseconds", yLabel: "",
  });
  plot.frame.dataset.chart = entry.key;
  for (const [side, row] of Object.entries(rows)) {
    const { samples, low, median: middle, high } = entry[side];
    const [top, bottom] = [plot.at.y(row + 0.36), plot.at.y(row - 0.36)];
    plot.frame.append(
      svg("rect", { class: "qw-quartiles", x: plot.at.x(low), width: plot.at.x(high) - plot.at.x(low), y: top, height: bottom - top, "data-box": side }),
      ...samples.map((ms, i) => shape(side, plot.at.x(ms), plot.at.y(row + (((i * 7) % 5) - 2) * 0.09), `${side.toUpperCase()}, timing ${i + 1}: ${figure(ms)} ms`)),
      svg("line", { class: "qw-middle", x1: plot.at.x(middle), x2: plot.at.x(middle), y1: top, y2: bottom, "data-median": side }),
    );
  }
  const noise = ["a", "b"].map((side) => `${side.toUpperCase()} ± ${figure(100 * entry[side].noise, 2)} %`).join(", ");
  return h("figure", {}, h("figcaption", {}, entry.title), plot.frame,
    h("p", { "data-words": entry.key }, entry.words),
    h("p", { class: "qw-detail" }, `On ${threads} thread${threads === 1 ? "" : "s"}; noise (half the interquartile range over the median): ${noise}. Box: quartiles and median.`),
    shownAsTable(table(`${entry.title}, milliseconds`, [["", false], ["Median", true], ["Lower quartile", true], ["Upper quartile", true], ["Least", true], ["Most", true], ["Timings", true]],
      ["a", "b"].map((side) => {
        const { samples, low, median: middle, high } = entry[side];
        return [side.toUpperCase(), ...[middle, low, high, Math.min(...samples), Math.max(...samples)].map((v) => figure(v, 4)), String(samples.length)];
      }))));
}

/** SQNR by layer, with a cursor for pointer and keys; a side that equals the float model has no points. */
function sideLayers({ layers, ...found }) {
  const all = layers.flatMap(({ a, b }) => [a, b]).filter((value) => value !== null);
  if (!all.length) return h("p", {}, "No layer of either side differs from the float model.");
  const last = layers.length - 1;
  const plot = chart({
    label: "Error of each layer's output for A and B, SQNR in decibels", height: 220,
    x: [-0.5, last + 0.5], y: around(all), xLabel: "layer, in the order of the model", yLabel: "SQNR, dB (more is better)",
    xTicks: ticks([0, Math.max(1, last)]).filter((i) => Number.isInteger(i) && i <= last).map((i) => [i, String(i + 1)]),
  });
  plot.frame.dataset.chart = "layers";
  const hair = svg("line", { class: "qw-hair", y1: plot.range.y[0], y2: plot.range.y[1], visibility: "hidden" });
  plot.frame.append(hair);
  const told = (side, value) => `${side} ${value === null ? "as in float" : `${figure(value)} dB`}`;
  layers.forEach((layer, i) => ["a", "b"].filter((side) => layer[side] !== null).forEach((side) => plot.frame.append(
    shape(side, plot.at.x(i), plot.at.y(layer[side]), `${brief(layer.name)}: ${told(side.toUpperCase(), layer[side])}`, { "data-layer": layer.name }))));
  const says = h("p", { class: "qw-detail", "aria-live": "polite" }, "Point at a layer, or use the arrow keys.");
  let at = -1;
  const go = (next) => {
    at = Math.max(0, Math.min(last, next));
    furnish(hair, { x1: plot.at.x(at), x2: plot.at.x(at), visibility: "visible" }, []);
    const { name, a, b } = layers[at];
    says.dataset.layer = name;
    says.textContent = `${brief(name)}: ${told("A", a)}, ${told("B", b)}`;
  };
  const box = h("div", {
    class: "qw-chart-box", tabindex: 0, role: "application", "data-lm-suppress-shortcuts": true,
    "aria-label": "Error by layer. Arrow keys move from layer to layer, Home and End to the ends.",
    onpointermove: (event) => {
      const seen = plot.frame.getBoundingClientRect();
      const px = ((event.clientX - seen.left) / seen.width) * plot.frame.viewBox.baseVal.width;
      go(Math.round(((px - plot.range.x[0]) / (plot.range.x[1] - plot.range.x[0])) * layers.length - 0.5));
    },
    onkeydown: (event) => {
      const next = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: last, PageUp: at - 10, PageDown: at + 10 }[event.key];
      if (next === undefined) return;
      event.preventDefault();
      event.stopPropagation();
      go(next);
    },
  }, plot.frame);
  return h("figure", {}, h("figcaption", {}, "Error of each layer's output"), sideLegend(found), box, says,
    shownAsTable(h("div", { class: "qw-scroll" }, table("SQNR in dB; – where the output is as in float",
      [["Layer", false], ["A", true], ["B", true]], layers.map(({ name, a, b }) => [brief(name), figure(a), figure(b)])))));
}

function drawnClasses({ a, b }) {
  const parts = a.findIndex((one, i) => one.label !== b[i]?.label);
  const listed = (classes) => table("Likeliest classes", [["", true], ["Class", false], ["Probability", true]],
    classes.map(({ label, probability }, i) => [i === parts ? "≠" : String(i + 1), i === parts ? h("mark", {}, label) : label, `${figure(100 * probability)} %`]));
  const words = parts < 0 ? "Both rank the classes alike."
    : parts === 0 ? `The choice flips, marked ≠: A takes it for ${a[0].label}, B for ${b[0].label}.`
      : `The same choice; the rankings part at place ${parts + 1}, marked ≠.`;
  return { words, a: listed(a), b: listed(b) };
}

/** Everything is put as text: nothing that was typed or generated is ever parsed. */
const DRAWN_ANSWERS = {
  "causal-lm": (found) => {
    const [a, b] = [found.a, found.b].map((text) => h("div", { class: "qw-chat-text" }, parted(text, found.common, found.same_tokens)));
    return { a, b, words: found.common === null ? `The same ${found.tokens} tokens from both.` : `The answers part at token ${found.same_tokens + 1} of ${found.tokens}, marked ≠.` };
  },
  encoder: ({ a, b }) => ({
    words: `B's cosine is ${b >= a ? "higher" : "lower"} by ${figure(Math.abs(b - a))}.`,
    a: h("p", {}, "Cosine of the two texts: ", h("b", {}, figure(a, 4))), b: h("p", {}, "Cosine of the two texts: ", h("b", {}, figure(b, 4))),
  }),
  classifier: drawnClasses,
  "image-classifier": drawnClasses,
};

/** The picture as the kernel gave it back; its bytes reach the page as an image and as nothing else. */
function pictureShown(model) {
  const image = h("img", { class: "qw-picture", alt: "" });
  follow(model, ["picture", "answers"], soon(() => {
    const content = model.get("picture");
    image.hidden = !content?.byteLength;
    if (image.src) URL.revokeObjectURL(image.src);
    if (!image.hidden) image.src = URL.createObjectURL(new Blob([content], { type: "image/png" }));
    image.alt = image.hidden ? "" : `The picture shown to both: ${model.get("answers").text ?? ""}`;
  }));
  return image;
}

function sideAnswers(model) {
  const area = () => h("textarea", { rows: 2, "data-lm-suppress-shortcuts": true });
  const [first, second] = [area(), area()];
  const labelled = [first, second].map((node) => h("label", { class: "qw-field" }, h("span"), node));
  const hint = h("p", { class: "qw-about" });
  const ask = h("button", { type: "button", "data-call": "answer", title: "Put the text to A and to B",
    onclick: () => model.send({ call: "answer", arguments: [first.value, second.value] }) }, "Ask A and B");
  const texts = h("div", { class: "qw-side-texts" }, labelled, ask);
  const chooser = upload(model, "picture_limit", { accept: "image/png,image/jpeg", "data-call": "look" });
  const picture = h("div", { class: "qw-row" }, field("Picture, PNG or JPEG, at most 2.5 MB", chooser), pictureShown(model));
  const said = h("div", { "aria-live": "polite" });
  follow(model, ["job"], () => { ask.disabled = chooser.disabled = isActive(model.get("job")); });
  follow(model, ["kind"], () => {
    const words = ANSWERED[model.get("kind") || "causal-lm"];
    hint.textContent = words.hint;
    picture.hidden = !words.picture;
    texts.hidden = Boolean(words.picture);
    if (words.picture) return;
    first.placeholder = words.example;
    labelled[0].firstChild.textContent = words.first;
    labelled[1].firstChild.textContent = words.second ?? "";
    labelled[1].hidden = !words.second;
  });
  follow(model, ["answers"], () => {
    const found = model.get("answers");
    const draw = DRAWN_ANSWERS[found.kind];
    if (!draw) return said.replaceChildren();
    if (!first.value && !texts.hidden) [first.value, second.value] = [found.text, found.other];
    const { words, a, b } = draw(found);
    said.replaceChildren(h("p", { "data-words": "answers" }, words), h("div", { class: "qw-chat-answers" },
      [["A", a], ["B", b]].map(([name, node]) => h("div", { class: "qw-chat-answer", "data-variant": name }, h("h4", {}, name), node))));
  });
  return h("div", {}, h("h4", {}, "What they answer"), hint, texts, picture, said);
}

function sidesView(model) {
  const select = (name) => {
    const node = h("select", { onchange: () => set(model, name, node.value) });
    follow(model, ["sides", name], soon(() => options(node, model.get("sides").map(({ key, label }) => [key, label]), model.get(name))));
    return field(`Side ${name.toUpperCase()}`, node);
  };
  const swap = h("button", { type: "button", "data-call": "swap", title: "Exchange A and B", onclick: () => call(model, "swap") }, "⇄ Swap");
  const result = h("div");
  follow(model, ["measured"], () => {
    const found = model.get("measured");
    if (!found.rows) {
      result.replaceChildren(h("p", {}, "These two have not been measured against each other yet."));
      return;
    }
    result.replaceChildren(sideLegend(found), sideFigures(found), h("div", { class: "qw-side-grid" },
      sideQuality(found), ...found.latency.map((entry) => sideLatency(entry, found.threads)), sideLayers(found)));
  });
  return h("div", { class: "qw-sides" }, h("h4", {}, "Any two, A against B"),
    h("div", { class: "qw-row" }, select("a"), select("b"), swap,
      button(model, "pair", "Measure A and B", "Quality, times in turns, sizes, and the error of each layer")),
    jobBar(model, ["pair", "answer"]), result, sideAnswers(model));
}
