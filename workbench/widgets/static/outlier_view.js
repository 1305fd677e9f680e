// Dark blue to yellow, even in lightness, so that it reads the same in grey.
const COLOURS = [[0, 32, 76], [35, 62, 108], [87, 93, 109], [124, 123, 120], [165, 156, 116], [210, 193, 95], [255, 234, 70]];

function colour(share) {
  const place = Math.max(0, Math.min(1, share)) * (COLOURS.length - 1);
  const i = Math.min(Math.floor(place), COLOURS.length - 2);
  return COLOURS[i].map((c, k) => Math.round(c + (COLOURS[i + 1][k] - c) * (place - i)));
}

const ROW = 14;
const WIDTH = 512;

function render({ model, el }) {
  const tabs = ["which", "where"].map((view) => h("button", {
    type: "button", role: "tab", "data-tab": view, onclick: () => set(model, "view", view),
    onkeydown: (event) => {
      if (!["ArrowLeft", "ArrowRight"].includes(event.key)) return;
      event.stopPropagation();
      const next = tabs[1 - tabs.indexOf(event.currentTarget)];
      next.click();
      next.focus();
    },
  }, view === "which" ? "Which channels" : "Where in the model"));
  const groups = h("select", { onchange: () => set(model, "group", groups.value) });
  const chosen = field("Input of", groups);
  const panel = h("div", { role: "tabpanel" });

  function drawWhich() {
    const x = floats(model.get("absmax"));
    const w = floats(model.get("weight_absmax"));
    if (!x.length || x.length !== w.length) return empty(); // the other one is still on its way
    const ranked = order(x);
    const middle = median(x);
    const ranks = ranked.map((_, i) => i + 1);
    const plot = chart({
      label: `Absolute maximum of each channel of ${model.get("group")}, largest first, logarithmic; weights overlaid`,
      height: 250, x: [1, Math.max(2, x.length)], xLog: true, y: limits(x, w, [2.5 * x[ranked[0]]]), yLog: true, // room for the labels
      xLabel: "channel, by rank of its activation", yLabel: "absolute maximum", xTicks: rankTicks(x.length),
    });
    line(plot, "weight", ranks, ranked.map((c) => w[c]));
    line(plot, "activation", ranks, ranked.map((c) => x[c]));
    line(plot, "median", [1, x.length], [middle, middle]);
    ranked.slice(0, model.get("top")).forEach((c, i) => {
      const [px, py] = [plot.at.x(i + 1), plot.at.y(x[c])];
      plot.frame.append(
        svg("circle", { class: "qw-top", cx: px, cy: py, r: 3.5, "data-channel": c, "data-value": x[c] },
          svg("title", {}, `channel ${c}: ${figure(x[c])}, ${figure(x[c] / middle)} times the median`)),
        svg("text", { class: "qw-label", transform: `translate(${px + 3} ${py - 5}) rotate(-38)` }, String(c)),
      );
    });
    const rows = ranked.slice(0, 20).map((c, i) => [i + 1, c, figure(x[c]), `${figure(x[c] / middle)}×`, figure(w[c])].map(String));
    return [
      plot.frame,
      legend(["activation", "activation absmax"], ["weight", "weight absmax"], ["median", "median activation"]),
      h("details", {}, h("summary", {}, "As a table"),
        h("div", { class: "qw-scroll" }, table(`The 20 largest of ${x.length} channels`,
          [["Rank", true], ["Channel", true], ["Activation", true], ["To median", true], ["Weight", true]], rows))),
    ];
  }

  function drawWhere() {
    const names = model.get("groups");
    const columns = model.get("heat_columns");
    const channels = model.get("heat_channels");
    const values = floats(model.get("heat"));
    const whole = columns.reduce((a, b) => a + b, 0);
    if (!whole || values.length !== whole || names.length !== columns.length) return empty();
    const starts = columns.map((_, i) => columns.slice(0, i).reduce((a, b) => a + b, 0));
    const top = values.reduce((a, b) => Math.max(a, b), 1e-6);
    const height = names.length * ROW;
    const canvas = h("canvas", {
      width: WIDTH, height, style: `height: ${height}px`, class: "qw-heat", tabindex: 0, role: "img", "data-top": top,
      "aria-label": "Absolute maximum over the layer's median, inputs by channels. Arrow keys move, Enter chooses the input.",
    });
    const context = canvas.getContext("2d");
    names.forEach((_, row) => {
      const strip = new ImageData(columns[row], 1);
      for (let i = 0; i < columns[row]; i++) {
        strip.data.set([...colour(values[starts[row] + i] / top), 255], 4 * i);
      }
      const buffer = new OffscreenCanvas(columns[row], 1);
      buffer.getContext("2d").putImageData(strip, 0, 0);
      context.imageSmoothingEnabled = false;
      context.drawImage(buffer, 0, row * ROW, WIDTH, ROW - 1);
    });

    const says = h("p", { class: "qw-detail", "aria-live": "polite" });
    const cursor = h("div", { class: "qw-cursor", "aria-hidden": "true" });
    let [row, column] = [Math.max(0, names.indexOf(model.get("group"))), 0];
    function point() {
      const run = Math.ceil(channels[row] / columns[row]);
      const [first, last] = [column * run, Math.min(channels[row], (column + 1) * run) - 1];
      const value = values[starts[row] + column];
      Object.assign(says.dataset, { row, column, value });
      says.textContent = `${brief(names[row])}, channel ${first === last ? first : `${first} to ${last}`}: ${figure(10 ** value)} times the median`;
      Object.assign(cursor.style, {
        left: `${(100 * column) / columns[row]}%`, width: `${100 / columns[row]}%`,
        top: `${(100 * row) / names.length}%`, height: `${100 / names.length}%`,
      });
    }
    canvas.addEventListener("pointermove", (event) => {
      row = Math.min(names.length - 1, Math.max(0, Math.floor((event.offsetY / canvas.clientHeight) * names.length)));
      column = Math.min(columns[row] - 1, Math.max(0, Math.floor((event.offsetX / canvas.clientWidth) * columns[row])));
      point();
    });
    canvas.addEventListener("click", () => set(model, "group", names[row]));
    canvas.addEventListener("keydown", (event) => {
      const [dr, dc] = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key] ?? [0, 0];
      if (event.key === "Enter") set(model, "group", names[row]);
      else if (!dr && !dc) return;
      event.preventDefault();
      event.stopPropagation();
      row = Math.min(names.length - 1, Math.max(0, row + dr));
      column = Math.min(columns[row] - 1, Math.max(0, column + dc));
      point();
    });
    point();

    const ramp = h("canvas", { width: 128, height: 1, class: "qw-ramp", "aria-hidden": "true" });
    const pen = ramp.getContext("2d");
    for (let i = 0; i < 128; i++) {
      pen.fillStyle = `rgb(${colour(i / 127)})`;
      pen.fillRect(i, 0, 1, 1);
    }
    const rows = names.map((name, r) => {
      const mine = values.subarray(starts[r], starts[r] + columns[r]);
      const best = order(mine)[0];
      return [brief(name), String(best * Math.ceil(channels[r] / columns[r])), `${figure(10 ** mine[best])}×`];
    });
    return [
      h("div", { class: "qw-heat-box" },
        h("div", { class: "qw-heat-names", "aria-hidden": "true" }, names.map((name) =>
          h("span", { class: name === model.get("group") ? "qw-chosen" : null }, brief(name)))),
        h("div", { class: "qw-heat-canvas" }, canvas, cursor)),
      h("p", { class: "qw-legend" }, "median or less", ramp, `${figure(10 ** top)} times the median`),
      says,
      h("details", {}, h("summary", {}, "As a table"),
        h("div", { class: "qw-scroll" }, table("The largest channel of each input",
          [["Input", false], ["Channel (first of its column)", true], ["To median", true]], rows))),
    ];
  }

  const empty = () => [h("p", {}, "No statistics yet. Load a model, or gather them with the button.")];

  function draw() {
    const view = model.get("view");
    for (const tab of tabs) {
      tab.setAttribute("aria-selected", String(tab.dataset.tab === view));
      tab.tabIndex = tab.dataset.tab === view ? 0 : -1;
    }
    options(groups, model.get("groups").map((name) => [name, brief(name)]), model.get("group"));
    chosen.hidden = view === "where" || !model.get("groups").length;
    panel.replaceChildren(...(view === "which" ? drawWhich() : drawWhere()));
  }

  follow(model, ["view", "groups", "group", "absmax", "weight_absmax", "heat", "heat_channels", "top"], soon(draw));
  card(model, el, "outliers", "Outliers", noteLine(model),
    h("div", { class: "qw-row" }, h("div", { role: "tablist", class: "qw-tabs", "aria-label": "view" }, tabs), chosen,
      button(model, "gather", "Gather statistics", "One pass over the calibration data")),
    panel, jobBar(model));
}
export default { render };
