// Each curve has a colour, a dash and a marker of its own, so that colour never tells alone.
const STYLES = [
  ["var(--qw-activation)", "", "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0"],
  ["var(--qw-weight)", "6 3", "M-4 -4h8v8h-8Z"],
  ["var(--qw-measured)", "2 2", "M0 -5L5 4H-5Z"],
  ["var(--qw-wrong)", "9 3 2 3", "M0 -5.5L5.5 0L0 5.5L-5.5 0Z"],
  ["var(--qw-text)", "1 3", "M-4 -4L4 4M-4 4L4 -4"],
];
const MOST_MARKERS = 40;

function mark(i, x, y, title) {
  const [colour, , shape] = STYLES[i];
  return svg("path", { d: shape, transform: `translate(${x} ${y})`, style: `fill: ${colour}; stroke: ${colour}` },
    title ? svg("title", {}, title) : null);
}

function render({ model, el }) {
  const box = h("figure");
  const draw = soon(() => {
    const [series, words, logX, logY] = ["series", "words", "log_x", "log_y"].map((name) => model.get(name));
    const place = (v) => (words.length ? words.indexOf(v) : v);
    const drawable = (v, log) => Number.isFinite(v) && (!log || v > 0);
    const curves = series.map(({ name, x, y }) => ({
      name, points: x.map((v, i) => [place(v), y[i], v]).filter(([u, v]) => v !== null && drawable(u, logX) && drawable(v, logY)),
    }));
    const all = curves.flatMap(({ points }) => points);
    const span = (values, log) => {
      if (!values.length) return [log ? 0.1 : 0, 1];
      if (log) return limits(values);
      const [low, high] = [Math.min(...values), Math.max(...values)];
      const room = (high - low || Math.abs(high) || 1) * 0.06;
      return [low >= 0 && low - room < 0 ? 0 : low - room, high + room];
    };
    const plot = chart({
      label: model.get("title"), height: 250, xLabel: model.get("x"), yLabel: model.get("y"), xLog: logX, yLog: logY,
      x: words.length ? [-0.5, words.length - 0.5] : span(all.map(([u]) => u), logX), y: span([...all.map(([, v]) => v), ...(model.get("from_zero") && !logY ? [0] : [])], logY),
      xTicks: words.length ? words.map((word, i) => [i, word]) : undefined,
    });
    curves.forEach(({ name, points }, i) => {
      const group = svg("g");
      if (!words.length && points.length > 1) {
        const d = points.map(([u, v], k) => `${k ? "L" : "M"}${plot.at.x(u).toFixed(2)} ${plot.at.y(v).toFixed(2)}`).join("");
        group.append(svg("path", { class: "qw-line", "data-series": name, d, style: `stroke: ${STYLES[i][0]}; stroke-dasharray: ${STYLES[i][1] || "none"}` }));
      }
      if (points.length <= MOST_MARKERS) {
        for (const [u, v, x] of points) {
          group.append(mark(i, plot.at.x(u).toFixed(2), plot.at.y(v).toFixed(2), `${name}: ${typeof x === "string" ? x : figure(x)}, ${figure(v)}`));
        }
      }
      plot.frame.append(group);
    });
    const keys = h("ul", { class: "qw-legend" }, curves.map(({ name, points }, i) => h("li", {},
      svg("svg", { viewBox: "0 0 34 12", width: 34, height: 12, "aria-hidden": "true" },
        words.length || points.length < 2 ? null : svg("path", { class: "qw-line", d: "M0 6L34 6", style: `stroke: ${STYLES[i][0]}; stroke-dasharray: ${STYLES[i][1] || "none"}` }),
        points.length <= MOST_MARKERS ? mark(i, 17, 6) : null), name)));
    const rows = series.flatMap(({ name, x, y }) => x.map((v, i) => [name, typeof v === "string" ? v : figure(v), figure(y[i], 4)]));
    box.replaceChildren(h("figcaption", {}, model.get("title")), plot.frame, keys,
      h("details", {}, h("summary", {}, "As a table"), h("div", { class: "qw-scroll" },
        table(model.get("title"), [["", false], [model.get("x"), true], [model.get("y"), true]], rows))));
  });
  follow(model, ["title", "series", "words", "x", "y", "log_x", "log_y", "from_zero"], draw);
  el.append(h("section", { class: "qw", "data-view": "chart" }, box));
}
