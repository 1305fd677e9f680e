// Two surfaces of tokens by channels under one camera and one height axis, drawn point by point with
// a depth buffer on plain canvases: browsers allow few WebGL contexts, and no library is needed.

const CAMERA = { azimuth: 28, elevation: 32 };
const SIZE = { width: 520, height: 340 };
const [LENGTH, DEPTH, TALL] = [1, 0.72, 0.62]; // half the channel axis, half the token axis, the height
const STEP = 5; // degrees a key turns

/** Where on the canvas (x, y, z) is, each from -1 or 0 to 1, and how near. */
function projection({ azimuth, elevation }) {
  const [a, e] = [(azimuth * Math.PI) / 180, (elevation * Math.PI) / 180];
  const [sa, ca, se, ce] = [Math.sin(a), Math.cos(a), Math.sin(e), Math.cos(e)];
  const unit = SIZE.width * 0.35;
  return (x, y, z) => {
    const [u, v] = [LENGTH * x * ca - DEPTH * y * sa, LENGTH * x * sa + DEPTH * y * ca];
    return [
      SIZE.width / 2 + unit * u,
      SIZE.height * 0.52 + unit * (v * se - (z - 0.35) * TALL * 2 * ce * 0.62),
      v * ce + z * TALL * se,
    ];
  };
}

/** `say(token, channel)` hears which vertex is under the pointer or the cursor. */
function surfaces(titles, say) {
  let [shown, camera, cursor] = [null, { ...CAMERA }, null];
  const panes = titles.map((title) => {
    const canvas = h("canvas", {
      ...SIZE, class: "qw-surface", tabindex: 0, role: "application",
      "aria-label": `${title}: magnitude by token and channel. Arrow keys turn both pictures, with Shift they move from channel to channel and token to token, Home resets.`,
    });
    const caption = h("figcaption");
    const image = new ImageData(SIZE.width, SIZE.height);
    const target = {
      pixels: new Uint32Array(image.data.buffer), near: new Float32Array(image.width * image.height), picked: new Int32Array(image.width * image.height),
    };
    const buffer = new OffscreenCanvas(SIZE.width, SIZE.height).getContext("2d");
    return { canvas, caption, image, target, buffer, node: h("figure", {}, caption, canvas) };
  });
  const node = h("div", { class: "qw-surfaces" }, panes.map((pane) => pane.node));

  /** `data` has `values` (one array for each pane), `tokens` and `channels` (counts), `top`, `log`, `marks`. */
  function draw(data) {
    shown = data;
    cursor = null;
    paint();
  }

  const heightOf = (value) => {
    if (!shown.log) return value / shown.top;
    return Math.max(0, 1 + Math.log10(Math.max(value, 1e-12) / shown.top) / shown.decades);
  };

  function paint() {
    if (!shown) return;
    const at = projection(camera);
    const style = getComputedStyle(node);
    panes.forEach((pane, i) => {
      pane.node.hidden = !shown.values[i];
      pane.caption.textContent = shown.captions[i] ?? "";
      if (shown.values[i]) paintPane(pane, shown.values[i], at, style);
    });
    Object.assign(node.dataset, { azimuth: camera.azimuth, elevation: camera.elevation, top: shown.top });
  }

  function paintPane(pane, values, at, style) {
    const { tokens, channels } = shown;
    const points = new Float32Array(tokens * channels * 3);
    const heights = new Float32Array(tokens * channels);
    for (let t = 0, i = 0; t < tokens; t++) {
      for (let c = 0; c < channels; c++, i++) {
        heights[i] = heightOf(values[i]);
        const vertex = at(along(c, channels), along(t, tokens), heights[i]);
        points[3 * i] = vertex[0];
        points[3 * i + 1] = vertex[1];
        points[3 * i + 2] = vertex[2];
      }
    }
    const { target } = pane;
    target.pixels.fill(0);
    target.near.fill(-Infinity);
    target.picked.fill(-1);
    for (let t = 0; t + 1 < tokens; t++) {
      for (let c = 0; c + 1 < channels; c++) {
        const i = t * channels + c;
        let best = heights[i + 1] > heights[i] ? i + 1 : i;
        if (heights[i + channels] > heights[best]) best = i + channels;
        if (heights[i + channels + 1] > heights[best]) best = i + channels + 1;
        // A slope that rises with the channel lies in shadow, so that forms can be told.
        const slope = (heights[i + 1] + heights[i + channels + 1] - heights[i] - heights[i + channels]) * 4;
        const light = 1 - 0.28 * Math.max(0, Math.min(1, slope));
        const ink = dimmed(shade(heights[best]), light);
        triangle(target, points, i, i + 1, i + channels, ink, best);
        triangle(target, points, i + 1, i + channels + 1, i + channels, ink, best);
      }
    }
    pane.buffer.putImageData(pane.image, 0, 0);
    const pen = pane.canvas.getContext("2d");
    pen.clearRect(0, 0, SIZE.width, SIZE.height);
    frame(pen, at, style);
    pen.drawImage(pane.buffer.canvas, 0, 0);
    labels(pen, pane, points, heights, at, style);
  }

  /** The floor's outline and the axis of heights, behind the surface. */
  function frame(pen, at, style) {
    pen.strokeStyle = style.getPropertyValue("--qw-rule") || "#999";
    pen.lineWidth = 1;
    const floor = [[-1, -1], [1, -1], [1, 1], [-1, 1]].map(([x, y]) => at(x, y, 0));
    pen.beginPath();
    floor.forEach(([x, y], i) => (i ? pen.lineTo(x, y) : pen.moveTo(x, y)));
    pen.closePath();
    pen.stroke();
    const [cx, cy] = post();
    for (const share of [0, 0.5, 1]) {
      const [x, y] = at(cx, cy, share);
      pen.beginPath();
      pen.moveTo(...at(cx, cy, 0));
      pen.lineTo(x, y);
      pen.lineTo(x - 4, y);
      pen.stroke();
    }
  }

  /** The corner of the floor that is furthest left: the axis of heights stands there. */
  function post() {
    const at = projection(camera);
    return [[-1, -1], [1, -1], [1, 1], [-1, 1]].reduce((a, b) => (at(...b, 0)[0] < at(...a, 0)[0] ? b : a));
  }

  function labels(pen, pane, points, heights, at, style) {
    const text = (words, x, y, align, colourOf = "--qw-soft") => {
      pen.textAlign = align;
      pen.lineWidth = 3;
      pen.strokeStyle = style.getPropertyValue("--qw-ground") || "#fff";
      pen.strokeText(words, x, y);
      pen.fillStyle = style.getPropertyValue(colourOf) || "#333";
      pen.fillText(words, x, y);
    };
    const size = (11.5 * SIZE.width) / (pane.canvas.clientWidth || SIZE.width); // the same on a narrow page
    pen.font = `${size}px ${style.fontFamily}`;
    pen.lineJoin = "round";
    const [cx, cy] = post();
    for (const share of [0, 0.5, 1]) {
      const value = shown.log ? shown.top * 10 ** ((share - 1) * shown.decades) : share * shown.top;
      const [x, y] = at(cx, cy, share);
      text(share || !shown.log ? figure(value) : `≤ ${figure(value)}`, Math.max(x - 7, 3.2 * size), y + 4, "right");
    }
    const front = (a, b) => (at(...a, 0)[1] > at(...b, 0)[1] ? a : b);
    const [, ey] = front([0, -1], [0, 1]);
    const [ex] = front([-1, 0], [1, 0]);
    const [lx, ly] = at(0, ey * 1.12, 0);
    text("channels", lx, Math.min(ly + size, SIZE.height - 4), "center");
    const [mx, my] = at(ex * 1.08, 0, 0);
    text("tokens", mx, Math.min(my + size, SIZE.height - 4), mx > SIZE.width / 2 ? "left" : "right");
    pen.font = `600 ${size}px ${style.fontFamily}`;
    const taken = [];
    for (const { column, name } of shown.marks) {
      let best = column;
      for (let t = 1; t < shown.tokens; t++) {
        if (heights[t * shown.channels + column] > heights[best]) best = t * shown.channels + column;
      }
      const [x, y] = [points[3 * best], points[3 * best + 1] - 6];
      if (heights[best] < 0.12 || taken.some(([u, v]) => Math.abs(u - x) < 2.2 * size && Math.abs(v - y) < size)) continue;
      taken.push([x, y]);
      text(name, x, Math.max(size, y), "center", "--qw-text");
    }
    if (cursor !== null) {
      pen.beginPath();
      pen.arc(points[3 * cursor], points[3 * cursor + 1], 5, 0, 7);
      pen.lineWidth = 2;
      pen.strokeStyle = style.getPropertyValue("--qw-text") || "#000";
      pen.stroke();
    }
    const peak = heights.reduce((a, v, i) => (v > heights[a] ? i : a), 0);
    Object.assign(pane.canvas.dataset, { peak, x: points[3 * peak], y: points[3 * peak + 1] });
  }

  let asked = false;
  function turn(azimuth, elevation) {
    camera.azimuth = (camera.azimuth + azimuth + 540) % 360 - 180;
    camera.elevation = Math.max(0, Math.min(90, camera.elevation + elevation));
    if (asked) return; // once a frame is enough
    asked = true;
    requestAnimationFrame(() => { asked = false; paint(); });
  }

  function look(next) {
    camera = { ...camera, ...next };
    paint();
  }

  function tell(index) {
    if (index >= 0) say(Math.floor(index / shown.channels), index % shown.channels);
  }

  for (const { canvas, target } of panes) {
    canvas.addEventListener("pointerdown", (event) => canvas.setPointerCapture(event.pointerId));
    canvas.addEventListener("pointermove", (event) => {
      if (!shown) return;
      if (event.buttons & 1) turn(-event.movementX * 0.5, event.movementY * 0.5);
      else {
        const x = Math.floor((event.offsetX / canvas.clientWidth) * SIZE.width);
        const y = Math.floor((event.offsetY / canvas.clientHeight) * SIZE.height);
        tell(target.picked[y * SIZE.width + x] ?? -1);
      }
    });
    canvas.addEventListener("keydown", (event) => {
      if (!shown) return;
      const [x, y] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key] ?? [0, 0];
      if (event.key === "Home") look(CAMERA);
      else if (!x && !y) return;
      else if (event.shiftKey) move(x, y);
      else turn(-STEP * x, -STEP * y);
      event.preventDefault();
      event.stopPropagation();
    });
  }

  function move(x, y) {
    const { tokens, channels } = shown;
    const from = cursor ?? 0;
    const token = Math.max(0, Math.min(tokens - 1, Math.floor(from / channels) + y));
    const channel = Math.max(0, Math.min(channels - 1, (from % channels) + x));
    cursor = token * channels + channel;
    paint();
    tell(cursor);
  }

  return { node, draw, look };
}

const along = (index, count) => (count > 1 ? (2 * index) / (count - 1) - 1 : 0);

function dimmed(ink, light) {
  const red = (ink & 255) * light, green = ((ink >> 8) & 255) * light, blue = ((ink >> 16) & 255) * light;
  return (255 << 24) | (blue << 16) | (green << 8) | red; // the shifts drop fractions
}

/** Fill the triangle of points a, b and c wherever nothing nearer was drawn; no allocation, as it runs 30,000 times a frame. */
function triangle(target, points, a, b, c, ink, index) {
  const ax = points[3 * a], ay = points[3 * a + 1], az = points[3 * a + 2];
  const bx = points[3 * b] - ax, by = points[3 * b + 1] - ay;
  const cx = points[3 * c] - ax, cy = points[3 * c + 1] - ay;
  const area = bx * cy - cx * by;
  if (Math.abs(area) < 1e-9) return;
  const dz = points[3 * b + 2] - az, ez = points[3 * c + 2] - az;
  const x0 = Math.max(0, Math.ceil(ax + Math.min(0, bx, cx) - 0.5)), x1 = Math.min(SIZE.width - 1, Math.floor(ax + Math.max(0, bx, cx) + 0.5));
  const y0 = Math.max(0, Math.ceil(ay + Math.min(0, by, cy) - 0.5)), y1 = Math.min(SIZE.height - 1, Math.floor(ay + Math.max(0, by, cy) + 0.5));
  const { pixels, near, picked } = target;
  const vx = cy / area, wx = -by / area;
  // Half a pixel to either side, so that a peak thinner than one is drawn to its tip.
  const least = -0.5 * Math.abs(vx), lower = -0.5 * Math.abs(wx), most = 1 + 0.5 * Math.abs(vx + wx);
  for (let y = y0; y <= y1; y++) {
    let v = ((x0 - ax) * cy - cx * (y - ay)) / area;
    let w = (bx * (y - ay) - (x0 - ax) * by) / area;
    for (let x = x0, at = y * SIZE.width + x0; x <= x1; x++, at++, v += vx, w += wx) {
      if (v < least || w < lower || v + w > most) continue;
      const depth = az + v * dz + w * ez;
      if (depth <= near[at]) continue;
      near[at] = depth;
      pixels[at] = ink;
      picked[at] = index;
    }
  }
}
