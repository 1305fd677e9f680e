const VIEWS = [["where", "Where in the model"], ["which", "Which channels"], ["why", "Why: the tokens"]];
const SERIES = { activation: "largest magnitude", weight: "largest weight", after: "after smoothing" };
const MANY = 1024; // channels from which on points closer than half a pixel are left out
const TABLE = 20;

function render({ model, el }) {
  const tabs = VIEWS.map(([view, label]) => h("button", {
    type: "button", role: "tab", "data-tab": view, onclick: () => set(model, "view", view),
    onkeydown: (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step) return;
      event.stopPropagation();
      const next = tabs[(tabs.indexOf(event.currentTarget) + step + tabs.length) % tabs.length];
      next.click();
      next.focus();
    },
  }, label));
  const sources = h("select", { "data-select": "source", onchange: () => set(model, "source", sources.value) });
  const rows = h("select", { "data-select": "row", onchange: () => set(model, "row", rows.value) });
  const log = h("input", { type: "checkbox", onchange: () => set(model, model.get("view") === "why" ? "surface_log" : "log", log.checked) });
  const logField = field("Log scale", log);
  const panes = { where: whereView(model), which: whichView(model), why: whyView(model) };
  const nothing = h("p", { class: "qw-detail" }, "No statistics yet. Load a model, or gather them with the button.");
  const panel = h("div", { role: "tabpanel" }, nothing, Object.values(panes).map((pane) => pane.node));

  function draw() {
    const view = model.get("view");
    const known = model.get("rows").length > 0;
    for (const tab of tabs) {
      tab.setAttribute("aria-selected", String(tab.dataset.tab === view));
      tab.tabIndex = tab.dataset.tab === view ? 0 : -1;
    }
    options(sources, model.get("sources").map(({ name, label }) => [name, label]), model.get("source"));
    options(rows, model.get("rows").map((name) => [name, brief(name)]), model.get("row"));
    log.checked = model.get(view === "why" ? "surface_log" : "log");
    log.disabled = view === "where"; // it is logarithmic always
    if (view === "where") log.checked = true;
    nothing.hidden = known;
    for (const [name, pane] of Object.entries(panes)) {
      pane.node.hidden = !known || name !== view;
      if (!pane.node.hidden) pane.draw();
    }
  }

  follow(model, ["view", "sources", "source", "rows", "row", "absmax", "weight_absmax", "scales", "heat", "heat_top", "heat_channels",
    "heat_columns", "top", "log", "surface_log", "histograms", "smoothed"], soon(draw));
  follow(model, ["peaks", "surface", "surface_tokens", "surface_channels"], soon(() => model.get("view") === "why" && draw()));
  card(model, el, "outliers", "Outliers", noteLine(model),
    h("div", { role: "tablist", class: "qw-tabs", "aria-label": "view" }, tabs),
    h("div", { class: "qw-row" }, field("Channels of", sources), field("Tensor", rows), logField,
      button(model, "gather", "Gather statistics", "One pass over the calibration data")),
    panel, jobBar(model));
}

/** A disclosure with a table that is made when it is opened. */
function asTable(make) {
  const box = h("div", { class: "qw-scroll" });
  const node = h("details", { class: "qw-as-table", ontoggle: () => update() }, h("summary", {}, "Show as a table"), box);
  const update = () => box.replaceChildren(...(node.open ? [make()] : []));
  return { node, update };
}

function whereView(model) {
  const says = h("p", { class: "qw-detail", "aria-live": "polite" });
  const legend = h("div");
  let [names, channels, columns, starts, levels, top, drawn] = [[], [], [], [], new Uint16Array(0), 0, null];
  const map = heatmap({
    label: "Largest magnitude of each channel over the median of its row, tensors by channels. Arrow keys move, Enter chooses the tensor.",
    pick: (row) => set(model, "row", names[row]),
    say: (row, column) => {
      const run = Math.ceil(channels[row] / columns[row]);
      const [first, last] = [column * run, Math.min(channels[row], (column + 1) * run) - 1];
      const value = (levels[starts[row] + column] / FULL) * top;
      Object.assign(says.dataset, { row, column, value });
      says.textContent = `${brief(names[row])}, channel ${first === last ? first : `${first} to ${last}`}: ${value ? `${figure(10 ** value)} times the median` : "the median or less"}`;
    },
  });
  const listed = asTable(() => table("The largest channel of each tensor",
    [["Tensor", false], ["Channel (first of its column)", true], ["To median", true]],
    names.map((name, r) => {
      const mine = levels.subarray(starts[r], starts[r] + columns[r]);
      const best = mine.reduce((a, v, i) => (v > mine[a] ? i : a), 0);
      return [brief(name), String(best * Math.ceil(channels[r] / columns[r])), `${figure(10 ** ((mine[best] / FULL) * top))}×`];
    })));

  function draw() {
    [names, channels, columns, top] = ["rows", "heat_channels", "heat_columns", "heat_top"].map((name) => model.get(name));
    const sent = model.get("heat");
    const whole = columns.reduce((a, b) => a + b, 0);
    if (names.length !== columns.length || names.length !== channels.length || sent.byteLength !== 2 * whole) return; // the rest is on its way
    if (drawn !== sent) {
      drawn = sent;
      levels = new Uint16Array(sent.buffer.slice(sent.byteOffset, sent.byteOffset + sent.byteLength));
      starts = columns.reduce((found, width) => [...found, found.at(-1) + width], [0]);
      map.node.querySelector("canvas").dataset.top = top;
      map.draw({ rows: names, columns, starts, levels });
      legend.replaceChildren(ramp("the row's median or less", `${figure(10 ** top)} times the median`));
      listed.update();
    }
    map.choose(names.indexOf(model.get("row")));
  }
  return { node: h("div", {}, map.node, legend, says, listed.node), draw };
}

function whichView(model) {
  const box = h("div", { class: "qw-which" });
  const says = h("p", { class: "qw-detail", "aria-live": "polite" });
  let [x, w, s, ranked, middle] = [[], [], [], [], 0];
  const room = fitted(box, () => draw());
  const number = (value) => (value === undefined ? "–" : figure(value));
  const listed = asTable(() => table(`The ${Math.min(TABLE, x.length)} largest of ${x.length} channels`,
    [["Rank", true], ["Channel", true], ["Magnitude", true], ["To median", true], ["After smoothing", true], ["Weight", true]],
    ranked.slice(0, TABLE).map((c, i) => [String(i + 1), String(c), figure(x[c]), `${figure(x[c] / middle)}×`, number(s.length ? x[c] / s[c] : undefined), number(w[c])])));

  function draw() {
    const weights = model.get("source") === "weights";
    [x, w, s] = ["absmax", "weight_absmax", "scales"].map((name) => floats(model.get(name)));
    if (weights) [x, w, s] = [w, [], []];
    if (!x.length || (w.length && w.length !== x.length) || (s.length && s.length !== x.length)) return; // the rest is on its way
    ranked = order(x);
    middle = median(x);
    const after = s.length ? x.map((v, i) => v / s[i]) : [];
    const [log, width, height] = [model.get("log"), room(), 300];
    const most = [x, w, after].reduce((m, array) => array.reduce((a, v) => Math.max(a, v), m), 0);
    const plot = chart({
      label: `Largest magnitude of each channel of ${model.get("row")}, largest first`, width, height,
      x: [1, Math.max(2, x.length)], xLog: true, y: log ? limits(x, w, after, [2.5 * x[ranked[0]]]) : [0, 1.25 * most || 1], yLog: log, // room for the labels
      xLabel: `channel, by rank of its magnitude (${x.length} in all)`, yLabel: "largest magnitude", xTicks: rankTicks(x.length),
    });
    const kept = thinned(ranked.length, plot.at.x);
    const ranks = kept.map((i) => i + 1);
    const pick = (values) => kept.map((i) => values[ranked[i]]);
    if (w.length) line(plot, "weight", ranks, pick(w));
    if (after.length) line(plot, "after", ranks, pick(after));
    line(plot, "activation", ranks, pick(x));
    line(plot, "median", [1, x.length], [middle, middle]);
    const labels = [];
    ranked.slice(0, model.get("top")).forEach((c, i) => {
      const [px, py] = [plot.at.x(i + 1), plot.at.y(x[c])];
      labels.push(svg("circle", { class: "qw-top", cx: px, cy: py, r: 3.5, "data-channel": c, "data-value": x[c] }),
        svg("text", { class: "qw-label", transform: `translate(${px + 3} ${py - 6}) rotate(-38)` }, String(c)));
    });
    const hair = svg("line", { class: "qw-hair", y1: plot.range.y[0], y2: plot.range.y[1], visibility: "hidden" });
    plot.frame.append(...labels, hair);
    box.replaceChildren(readable(plot, hair), legend(["activation", weights ? "largest weight" : SERIES.activation],
      ...(w.length ? [["weight", SERIES.weight]] : []), ...(after.length ? [["after", `${SERIES.after} (${model.get("smoothed")})`]] : []),
      ["median", "median channel"]), ...(after.length || weights ? [] : [h("p", { class: "qw-detail" }, `No curve after smoothing: ${model.get("smoothed")}.`)]),
      h("div", { class: "qw-histograms" }, weights ? histograms() : []));
    tell(0);
    listed.update();
  }

  /** Give the chart a cursor that pointer and arrow keys move from rank to rank. */
  function readable(plot, hair) {
    let at = 0;
    const go = (next) => {
      at = Math.max(0, Math.min(ranked.length - 1, next));
      const px = plot.at.x(at + 1);
      furnish(hair, { x1: px, x2: px, visibility: "visible" }, []);
      tell(at);
    };
    return h("div", {
      class: "qw-chart-box", tabindex: 0, role: "application", "data-lm-suppress-shortcuts": true,
      "aria-label": "Channels by rank. Arrow keys move from channel to channel, Home and End to the ends.",
      onpointermove: (event) => {
        const seen = plot.frame.getBoundingClientRect();
        const px = ((event.clientX - seen.left) / seen.width) * plot.frame.viewBox.baseVal.width;
        const share = (px - plot.range.x[0]) / (plot.range.x[1] - plot.range.x[0]);
        go(Math.round(Math.max(2, ranked.length) ** Math.max(0, Math.min(1, share))) - 1);
      },
      onkeydown: (event) => {
        const next = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: ranked.length - 1, PageUp: at - 10, PageDown: at + 10 }[event.key];
        if (next === undefined) return;
        event.preventDefault();
        event.stopPropagation();
        go(next);
      },
    }, plot.frame);
  }

  function tell(i) {
    const c = ranked[i];
    Object.assign(says.dataset, { channel: c, value: x[c] });
    says.textContent = [`rank ${i + 1}: channel ${c}, ${figure(x[c])}, ${figure(x[c] / middle)} times the median`,
      ...(s.length ? [`${figure(x[c] / s[c])} after smoothing`] : []), ...(w.length ? [`largest weight ${figure(w[c])}`] : [])].join(" · ");
  }

  function histograms() {
    return model.get("histograms").map(({ layer, low, high, counts }) => {
      const most = Math.max(...counts);
      const plot = chart({
        label: `How often each value occurs in the weights of ${layer}, logarithmic`, width: 420, height: 150,
        x: [low, high], y: [0.8, most * 1.6], yLog: true, xLabel: "weight", yLabel: "count",
      });
      const each = (plot.range.x[1] - plot.range.x[0]) / counts.length;
      counts.forEach((count, i) => count && plot.frame.append(svg("rect", {
        class: "qw-bin", "data-count": count, x: plot.range.x[0] + i * each, width: Math.max(0.5, each - 0.5),
        y: plot.at.y(count), height: plot.range.y[0] - plot.at.y(count),
      })));
      plot.frame.dataset.layer = layer;
      return h("figure", {}, h("figcaption", {}, `Weights of ${brief(layer)}`), plot.frame);
    });
  }

  return { node: h("div", {}, box, says, listed.node), draw };
}

/** Which ranks to draw: all, or of very many those that a pixel can tell apart. */
function thinned(count, at) {
  const kept = [];
  let last = -Infinity;
  for (let i = 0; i < count; i++) {
    const px = at(i + 1);
    if (count > MANY && px - last < 0.5 && i + 1 < count) continue;
    kept.push(i);
    last = px;
  }
  return kept;
}

function whyView(model) {
  const says = h("p", { class: "qw-detail", "aria-live": "polite" });
  const causes = h("ol", { class: "qw-causes" });
  const none = h("p", { class: "qw-detail" }, "Weights are the same for every token: choose another source to see what its tokens do.");
  let [before, after, tokens, channels] = [[], null, [], []];
  const pair = surfaces(["Before smoothing", "After smoothing"], (t, c) => {
    const i = t * channels.length + c;
    Object.assign(says.dataset, { token: t, channel: channels[c], value: before[i] });
    says.replaceChildren(`channel ${channels[c]}, ${place(tokens[t])}: ${figure(before[i])}${after ? ` before, ${figure(after[i])} after` : ""}, at `, quoted(tokens[t]));
  });
  const resets = h("div", { class: "qw-row" },
    h("button", { type: "button", onclick: () => pair.look(CAMERA) }, "Reset the view"),
    h("button", { type: "button", onclick: () => pair.look({ azimuth: 0, elevation: 90 }) }, "From above"),
    h("span", { class: "qw-detail" }, "Drag, or use the arrow keys, to turn both."));
  const listed = asTable(() => {
    const loud = model.get("peaks").map(({ channel }) => channels.indexOf(channel)).filter((c) => c >= 0);
    return table(`Magnitudes of ${tokens.length} tokens in the loudest channels`,
      [["Token", false], ["Position", true], ...loud.map((c) => [`Channel ${channels[c]}`, true])],
      tokens.map((token, t) => [token.token || "–", token.position === null ? "–" : String(token.position), ...loud.map((c) => figure(before[t * channels.length + c]))]));
  });
  const shown = h("div", {}, pair.node, resets, says, h("h4", {}, "The tokens behind the loudest channels"), causes, listed.node);

  function draw() {
    const weights = model.get("source") === "weights";
    none.hidden = !weights;
    shown.hidden = weights;
    if (weights) return;
    before = floats(model.get("surface"));
    [tokens, channels] = [model.get("surface_tokens"), model.get("surface_channels")];
    const s = floats(model.get("scales"));
    if (!tokens.length || before.length !== tokens.length * channels.length || (s.length && channels.at(-1) >= s.length)) return; // the rest is on its way
    after = s.length ? before.map((v, i) => v / s[channels[i % channels.length]]) : null;
    const top = [before, after ?? []].reduce((m, array) => array.reduce((a, v) => Math.max(a, v), m), 1e-12);
    pair.draw({
      values: [before, after], tokens: tokens.length, channels: channels.length, top, decades: 4, log: model.get("surface_log"),
      captions: [after ? "Before smoothing" : `Activations (${model.get("smoothed")})`, `After smoothing (${model.get("smoothed")}), same heights`],
      marks: model.get("peaks").slice(0, model.get("top")).map(({ channel }) => ({ name: String(channel), column: channels.indexOf(channel) })).filter(({ column }) => column >= 0),
    });
    causes.replaceChildren(...model.get("peaks").slice(0, Math.max(3, model.get("top"))).map((peak) => h("li", { "data-channel": peak.channel, "data-value": peak.value },
      h("b", {}, `channel ${peak.channel}`), ` reaches ${figure(peak.value)}, ${place(peak)}: `, quoted(peak))));
    listed.update();
  }
  return { node: h("div", {}, none, shown), draw };
}

const place = ({ position }) => (position === null ? "at a token" : `at position ${position}`);

/** A token in its context, as text: what a model reads is never markup. */
function quoted({ before, token, after }) {
  if (!token && !before && !after) return h("span", {}, "(no text is known for it)");
  const visible = (text) => text.replaceAll("\n", "⏎").replaceAll("\t", "⇥");
  return h("code", { class: "qw-context" }, visible(before), h("mark", {}, visible(token) || "␣"), visible(after));
}
