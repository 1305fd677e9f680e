// A heatmap of rows of unequal length on one canvas: fed by a uint16 array, read by pointer and keys.

// Dark blue to yellow, even in lightness, so that it reads the same in grey.
const COLOURS = [[0, 32, 76], [35, 62, 108], [87, 93, 109], [124, 123, 120], [165, 156, 116], [210, 193, 95], [255, 234, 70]];

function colour(share) {
  const place = Math.max(0, Math.min(1, share)) * (COLOURS.length - 1);
  const i = Math.min(Math.floor(place), COLOURS.length - 2);
  return COLOURS[i].map((c, k) => Math.round(c + (COLOURS[i + 1][k] - c) * (place - i)));
}

const FULL = 65535;
const PALETTE = Uint32Array.from({ length: 1024 }, (_, i) => {
  const [red, green, blue] = colour(i / 1023);
  return (255 << 24) | (blue << 16) | (green << 8) | red;
});
const shade = (share) => PALETTE[Math.round(Math.max(0, Math.min(1, share)) * 1023)];

/** A layer's name without the ending that all parts of it share: self_attn.[q k v]. */
const short = (name) => brief(name).replace(/\[(.+)\]/, (_, parts) => {
  const names = parts.split(" ");
  const ending = names[0].match(/_[^_]+$/)?.[0] ?? "";
  return `[${names.every((part) => part.endsWith(ending)) ? names.map((part) => part.slice(0, part.length - ending.length)).join(" ") : parts}]`;
});

const WIDTH = 512;
const HEIGHT = 420;
const NAME = 13; // pixels that a name needs

/** The colours from nothing to the largest, with both ends in words. */
function ramp(low, high) {
  const canvas = h("canvas", { width: 128, height: 1, class: "qw-ramp", "aria-hidden": "true" });
  const pen = canvas.getContext("2d");
  for (let i = 0; i < 128; i++) {
    pen.fillStyle = `rgb(${colour(i / 127)})`;
    pen.fillRect(i, 0, 1, 1);
  }
  return h("p", { class: "qw-legend" }, low, canvas, high);
}

/** `pick(row)` is called for a click or Enter, `say(row, column)` for where the pointer or cursor is. */
function heatmap({ label, pick, say }) {
  const canvas = h("canvas", { class: "qw-heat", tabindex: 0, role: "application", "aria-label": label });
  const names = h("div", { class: "qw-heat-names", "aria-hidden": "true" });
  const cursor = h("div", { class: "qw-cursor", "aria-hidden": "true" });
  const mark = h("div", { class: "qw-heat-row", "aria-hidden": "true" });
  const node = h("div", { class: "qw-heat-box" }, names, h("div", { class: "qw-heat-canvas" }, canvas, mark, cursor,
    h("p", { class: "qw-heat-axis", "aria-hidden": "true" }, h("span", {}, "channel 0"), h("span", {}, "the last channel"))));
  let data = { rows: [], columns: [], starts: [], levels: new Uint16Array(0) };
  let [row, column, chosen] = [0, 0, -1];

  const across = (value) => `${(100 * value) / data.rows.length}%`;

  function draw(next) {
    data = next;
    const count = data.rows.length;
    const each = Math.max(2, Math.min(18, Math.floor(HEIGHT / count)));
    Object.assign(canvas, { width: WIDTH, height: count * each });
    canvas.style.height = names.style.height = `${count * each}px`;
    const context = canvas.getContext("2d");
    context.imageSmoothingEnabled = false;
    const image = new ImageData(WIDTH, count * each);
    const pixels = new Uint32Array(image.data.buffer);
    const gap = each > 5 ? 1 : 0; // a line between rows where there is room for one
    for (let r = 0; r < count; r++) {
      const start = r * each * WIDTH;
      for (let x = 0; x < WIDTH; x++) {
        pixels[start + x] = shade(data.levels[data.starts[r] + Math.floor((x * data.columns[r]) / WIDTH)] / FULL);
      }
      for (let y = 1; y < each - gap; y++) pixels.copyWithin(start + y * WIDTH, start, start + WIDTH);
    }
    context.putImageData(image, 0, 0);
    Object.assign(canvas.dataset, { rows: count, each });
    const every = Math.ceil(NAME / each);
    names.replaceChildren(...data.rows.map((name, r) => (r % every ? null
      : h("span", { "data-row": r, style: `top: ${across(r)}; height: ${Math.max(each, NAME)}px`, title: name }, short(name)))).filter(Boolean));
    row = Math.min(row, count - 1);
    column = Math.min(column, data.columns[row] - 1);
    choose(chosen);
    point();
  }

  function choose(next) {
    chosen = next;
    mark.hidden = chosen < 0 || chosen >= data.rows.length;
    Object.assign(mark.style, { top: across(chosen), height: across(1) });
    for (const name of names.children) name.classList.toggle("qw-chosen", Number(name.dataset.row) === chosen);
  }

  function point() {
    Object.assign(cursor.style, {
      left: `${(100 * column) / data.columns[row]}%`, width: `${100 / data.columns[row]}%`, top: across(row), height: across(1),
    });
    say(row, column);
  }

  canvas.addEventListener("pointermove", (event) => {
    row = Math.min(data.rows.length - 1, Math.max(0, Math.floor((event.offsetY / canvas.clientHeight) * data.rows.length)));
    column = Math.min(data.columns[row] - 1, Math.max(0, Math.floor((event.offsetX / canvas.clientWidth) * data.columns[row])));
    point();
  });
  canvas.addEventListener("click", () => pick(row));
  canvas.addEventListener("keydown", (event) => {
    const [dr, dc] = {
      ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1],
      PageUp: [-10, 0], PageDown: [10, 0], Home: [0, -Infinity], End: [0, Infinity],
    }[event.key] ?? [0, 0];
    if (event.key === "Enter" || event.key === " ") pick(row);
    else if (!dr && !dc) return;
    event.preventDefault();
    event.stopPropagation();
    row = Math.min(data.rows.length - 1, Math.max(0, row + dr));
    column = Math.min(data.columns[row] - 1, Math.max(0, column + dc));
    point();
  });
  return { node, draw, choose };
}
