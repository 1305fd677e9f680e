// Helpers that every view starts from: elements, buttons, the job bar, the error strip.

// In command mode JupyterLab takes arrows and Enter from whatever has the focus, unless told not to.
const FOCUSABLE = ["button", "input", "select", "canvas", "tr", "pre", "summary"];

function h(tag, attributes = {}, ...children) {
  const keepsKeys = FOCUSABLE.includes(tag) ? { "data-lm-suppress-shortcuts": true } : {};
  return furnish(document.createElement(tag), { ...keepsKeys, ...attributes }, children);
}

function svg(tag, attributes = {}, ...children) {
  return furnish(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function furnish(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

let counter = 0;
const unique = (stem) => `qw-${stem}-${++counter}-${Math.random().toString(36).slice(2, 7)}`;

/** Three significant digits, with words for what is not a number. */
function figure(value, digits = 3) {
  if (value === null || value === undefined) return "–";
  if (!Number.isFinite(value)) return "∞";
  if (value !== 0 && (Math.abs(value) >= 1e5 || Math.abs(value) < 1e-3)) return value.toExponential(digits - 1).replace(/\.?0+e/, "e");
  return Number(value.toPrecision(digits)).toString();
}

function bytes(value) {
  if (value === null || value === undefined) return "–";
  for (const unit of ["B", "kB", "MB"]) {
    if (value < 1000) return `${figure(value)} ${unit}`;
    value /= 1000;
  }
  return `${figure(value)} GB`;
}

/** The float32 array inside a synced bytes trait; copied, since its offset may not be aligned. */
function floats(view) {
  if (!view || !view.byteLength) return new Float32Array(0);
  return new Float32Array(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));
}

/** The lower median, as torch.median gives it. */
function median(values) {
  return Float64Array.from(values).sort()[Math.floor((values.length - 1) / 2)];
}

/** A layer's name from its block on: model.layers.0.mlp.up_proj is layers.0.mlp.up_proj. */
const brief = (name) => name.replace(/^.*?(?=[^.]+\.\d+\.)/, "");

const call = (model, name, ...given) => model.send({ call: name, arguments: given });

function set(model, name, value) {
  model.set(name, value);
  model.save_changes();
}

/** Run `draw` now and whenever one of the traits changes. */
function follow(model, names, draw) {
  for (const name of names) model.on(`change:${name}`, draw);
  draw();
}

const isActive = (job) => job.state === "queued" || job.state === "running";

function button(model, name, label, title) {
  const node = h("button", { type: "button", class: "qw-primary", "data-call": name, title, onclick: () => call(model, name) }, label);
  follow(model, ["job"], () => { node.disabled = isActive(model.get("job")); });
  return node;
}

/** The content of a file as base64, which JSON can carry. */
function base64(file) {
  return new Promise((done, failed) => {
    const reader = new FileReader();
    reader.onload = () => done(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => failed(reader.error);
    reader.readAsDataURL(file);
  });
}

/** A chooser that sends a file to the call it names; of one above the trait `limit` the size alone. */
function upload(model, limit, attributes) {
  const chooser = h("input", { type: "file", ...attributes });
  chooser.addEventListener("change", async () => {
    const [file] = chooser.files;
    if (!file) return;
    const content = file.size > model.get(limit) ? "" : await base64(file); // the kernel says why not
    model.send({ call: attributes["data-call"], arguments: [file.name, content, file.size] });
    chooser.value = "";
  });
  return chooser;
}

/** The two buttons that go back and forth among the recipes so far. */
function undoButtons(model) {
  const undo = h("button", { type: "button", "data-call": "undo", title: "Undo the last change of the recipe", onclick: () => call(model, "undo") }, "↶ Undo");
  const redo = h("button", { type: "button", "data-call": "redo", title: "Make the change again that was undone last", onclick: () => call(model, "redo") }, "↷ Redo");
  follow(model, ["can_undo"], () => { undo.disabled = !model.get("can_undo"); });
  follow(model, ["can_redo"], () => { redo.disabled = !model.get("can_redo"); });
  return [undo, redo];
}

/** A labelled field; `control` gets an id so that the label names it. */
function field(label, control, hint) {
  control.id ||= unique("field");
  return h("label", { class: "qw-field", for: control.id, title: hint }, h("span", {}, label), control);
}

function options(select, values, chosen) {
  const wanted = values.map(([value]) => value).join("\n");
  if (select.dataset.values !== wanted) {
    select.replaceChildren(...values.map(([value, label]) => h("option", { value }, label ?? value)));
    select.dataset.values = wanted;
  }
  select.value = chosen;
}

const WORK = {
  load: "loading the model", observe: "gathering statistics", calibrate: "calibrating", freeze: "freezing", compare: "comparing", save: "saving",
  sweep: "measuring alphas", suggest: "searching alphas", error: "measuring these layers", sensitivity: "predicting damage", allocate: "allocating bits",
  time: "measuring speed", profile: "timing the layers", pair: "measuring A and B", answer: "answering", chat: "answering", train: "training",
};

/** Progress of this view's newest job (if it is one of `verbs`), with the time left and a way to stop it. */
function jobBar(model, verbs = null) {
  const bar = h("progress", { max: 1, "aria-label": "progress" });
  const text = h("span", { class: "qw-job-text" });
  const cancel = h("button", { type: "button", "data-call": "cancel", onclick: () => call(model, "cancel") }, "Cancel");
  const root = h("div", { class: "qw-job", role: "status" }, bar, text, cancel);
  follow(model, ["job"], () => {
    const job = model.get("job");
    const active = Boolean(job.state) && isActive(job);
    root.hidden = (!active && job.state !== "cancelled") || (verbs !== null && !verbs.includes(job.verb));
    if (!job.state) return;
    root.dataset.state = job.state;
    root.dataset.verb = job.verb;
    root.dataset.done = job.done ?? 0;
    bar.hidden = cancel.hidden = !active;
    if (job.total) bar.value = job.done / job.total;
    else bar.removeAttribute("value");
    const parts = active ? [job.what || (job.state === "queued" ? "waiting for its turn" : WORK[job.verb] ?? job.verb)] : [`${job.verb}: ${job.state}`];
    if (active && job.total) parts.push(`${job.done} of ${job.total}`);
    if (active && job.paused) parts.push("paused");
    else if (active && job.remaining !== null) parts.push(`about ${Math.ceil(job.remaining)} s left`);
    if (job.reason) parts.push(job.reason);
    text.textContent = parts.join(" · ");
  });
  return root;
}

function errorStrip(model) {
  const text = h("span");
  const root = h("div", { class: "qw-error", role: "alert" }, h("b", {}, "✖ Refused or failed: "), text);
  follow(model, ["error"], () => {
    text.textContent = model.get("error");
    root.hidden = !model.get("error");
  });
  return root;
}

function noteLine(model) {
  const root = h("p", { class: "qw-note" });
  follow(model, ["note"], () => {
    root.textContent = model.get("note") ? `Note: ${model.get("note")}` : "";
    root.hidden = !model.get("note");
  });
  return root;
}

/** The card around a view: its title, its content, the note if it shows figures, the error strip. */
function card(model, root, name, title, ...content) {
  const heading = h("h3", { id: unique("title") }, title);
  root.append(
    h("section", { class: "qw", "data-view": name, "aria-labelledby": heading.id },
      heading, ...content, errorStrip(model)),
  );
}

/** A table of plain cells; `columns` are [label, isNumber]. */
function table(caption, columns, rows) {
  const cells = (tag, values) => values.map((value, i) =>
    h(tag, { class: columns[i][1] ? "qw-number" : null, scope: tag === "th" ? "col" : null }, value));
  return h("table", { class: "qw-table" },
    h("caption", {}, caption),
    h("thead", {}, h("tr", {}, cells("th", columns.map(([label]) => label)))),
    h("tbody", {}, rows.map((row) => h("tr", {}, cells("td", row)))));
}

/** A text that parts from another after its first `common` characters: what follows is marked. */
function parted(text, common, token) {
  if (common === null) return [text];
  const [gap, word] = text.slice(common).match(/^(\s*)(\S*)/).slice(1);
  const mark = h("mark", { title: `differs from token ${token + 1} on` }, h("span", { class: "qw-hidden-words" }, "differs from here: "), "≠", word);
  return [text.slice(0, common) + gap, mark, text.slice(common + gap.length + word.length)];
}

/** Several traits often change together; draw once for all of them. */
function soon(draw) {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    queueMicrotask(() => { asked = false; draw(); });
  };
}
