// A small SVG chart whose frame tells its scales (data-x0 ... data-y-scale), so that every drawn
// coordinate can be read back as a value.

const MARGIN = { left: 50, right: 14, top: 12, bottom: 34 };

function scale(domain, range, log) {
  const t = log ? Math.log10 : (v) => v;
  const [a, b] = domain.map(t);
  const width = b - a || 1;
  return (value) => range[0] + ((t(value) - a) / width) * (range[1] - range[0]);
}

function ticks([low, high], log) {
  if (!log) {
    const step = 10 ** Math.floor(Math.log10(high - low || 1));
    const size = [step / 5, step / 4, step / 2, step].find((s) => (high - low) / s <= 6) ?? step * 2;
    const found = [];
    for (let v = Math.ceil(low / size) * size; v <= high + 1e-9; v += size) found.push(v);
    return found;
  }
  const decades = Math.log10(high / low);
  const factors = decades < 1.2 ? [1, 2, 3, 5, 7] : decades < 2.5 ? [1, 3] : [1];
  const every = Math.max(1, Math.ceil(decades / 6));
  const found = [];
  for (let e = Math.floor(Math.log10(low)); e <= Math.ceil(Math.log10(high)); e += every) {
    for (const f of factors) {
      const v = f * 10 ** e;
      if (v >= low * 0.999 && v <= high * 1.001) found.push(v);
    }
  }
  return found;
}

function chart({ label, width = 560, height = 190, x, y, xLog = false, yLog = false, xLabel, yLabel, xTicks, yTicks }) {
  const range = {
    x: [MARGIN.left, width - MARGIN.right],
    y: [height - MARGIN.bottom, MARGIN.top],
  };
  const at = { x: scale(x, range.x, xLog), y: scale(y, range.y, yLog) };
  const frame = svg("svg", {
    viewBox: `0 0 ${width} ${height}`, class: "qw-chart", role: "img", "aria-label": label,
    "data-x0": x[0], "data-x1": x[1], "data-y0": y[0], "data-y1": y[1],
    "data-left": range.x[0], "data-right": range.x[1], "data-bottom": range.y[0], "data-top": range.y[1],
    "data-x-scale": xLog ? "log" : "linear", "data-y-scale": yLog ? "log" : "linear",
  });
  for (const v of xTicks ?? ticks(x, xLog).map((t) => [t, figure(t)])) {
    frame.append(
      svg("line", { class: "qw-grid", x1: at.x(v[0]), x2: at.x(v[0]), y1: range.y[0], y2: range.y[1] }),
      svg("text", { class: "qw-tick", x: at.x(v[0]), y: range.y[0] + 13, "text-anchor": "middle" }, v[1]),
    );
  }
  for (const v of yTicks ?? ticks(y, yLog).map((t) => [t, figure(t)])) {
    frame.append(
      svg("line", { class: "qw-grid", x1: range.x[0], x2: range.x[1], y1: at.y(v[0]), y2: at.y(v[0]) }),
      svg("text", { class: "qw-tick", x: range.x[0] - 5, y: at.y(v[0]) + 3, "text-anchor": "end" }, v[1]),
    );
  }
  frame.append(
    svg("text", { class: "qw-axis", x: (range.x[0] + range.x[1]) / 2, y: height - 4, "text-anchor": "middle" }, xLabel),
    svg("text", { class: "qw-axis", transform: `translate(11 ${(range.y[0] + range.y[1]) / 2}) rotate(-90)`, "text-anchor": "middle" }, yLabel),
  );
  return { frame, at, range };
}

/** Call `draw` whenever the width of `box` changes, as when it is shown at last; tells the width. */
function fitted(box, draw) {
  let width = 640;
  new ResizeObserver(() => { // drawn a frame later: a new height would have to be told at once
    if (box.clientWidth && Math.abs(box.clientWidth - width) > 3) requestAnimationFrame(draw);
  }).observe(box);
  return () => (width = Math.max(320, box.clientWidth || width));
}

const MOST_POINTS = 1500; // of a line that is drawn whole: what is denser than pixels only takes time

/** The points of a dense line that can be seen: of each half pixel the lowest and the highest. */
function visible(pixels, ys) {
  const kept = [];
  for (let i = 0; i < pixels.length;) {
    let [low, high, j] = [i, i, i];
    for (; j < pixels.length && pixels[j] - pixels[i] < 0.5; j++) {
      if (ys[j] < ys[low]) low = j;
      if (ys[j] > ys[high]) high = j;
    }
    kept.push(...new Set([Math.min(low, high), Math.max(low, high)]));
    i = j;
  }
  return kept;
}

/** A path through the points; what lies below the frame is drawn on its lower edge. */
function line(plot, name, xs, ys, attributes = {}) {
  const floor = plot.range.y[0];
  const pixels = Array.from(xs, plot.at.x);
  const kept = pixels.length > MOST_POINTS ? visible(pixels, ys) : pixels.keys();
  const d = [];
  for (const i of kept) {
    const y = plot.at.y(ys[i]);
    d.push(`${pixels[i].toFixed(2)} ${(Number.isFinite(y) ? Math.min(y, floor) : floor).toFixed(3)}`);
  }
  const path = svg("path", { class: `qw-line qw-${name}`, "data-series": name, d: d.length ? `M${d.join("L")}` : "", ...attributes });
  plot.frame.append(path);
  return path;
}

/** What each line is, in words and with its own stroke. */
function legend(...entries) {
  return h("ul", { class: "qw-legend" }, entries.map(([name, label]) =>
    h("li", {},
      svg("svg", { viewBox: "0 0 26 10", width: 26, height: 10, "aria-hidden": "true" },
        svg("path", { class: `qw-line qw-${name}`, d: "M0 5L26 5" })), label)));
}

/** Positive limits that hold all values with a little room, for a log axis. */
function limits(...arrays) {
  let low = Infinity;
  let high = 0;
  for (const array of arrays) {
    for (const v of array) {
      if (v > 0 && v < low) low = v;
      if (v > high && Number.isFinite(v)) high = v;
    }
  }
  if (!high) return [0.1, 10];
  return [Math.max(low, high * 1e-7) / 1.25, high * 1.4];
}

/** Rank ticks of a logarithmic rank axis. */
function rankTicks(count) {
  return [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000]
    .filter((rank) => rank <= count).map((rank) => [rank, String(rank)]);
}

const order = (values) => Array.from(values.keys()).sort((a, b) => values[b] - values[a] || a - b);
