const COLUMNS = [
  ["name", "Layer", false, "Each linear layer, in execution order"],
  ["outlier_ratio", "Outliers", true, "Largest channel of its input over the median channel"],
  ["bits", "Bits", true, "Width of its weights"],
  ["scheme", "Scheme", false, "How its input is rounded"],
  ["how", "Smoothed", false, "Whether smoothing was folded into what makes the input, or multiplies it at run time"],
  ["op", "Op", false, "The operation that computes it; spelled out below for the chosen input"],
  ["bytes", "Bytes", true, "Of its weights with their scales"],
  ["sqnr_db", "SQNR dB, measured", true, "Signal to quantization noise of its output, in a comparison; holds what the layers before have added"],
  ["predicted_sqnr_db", "SQNR dB, predicted", true, "What rounding this layer's weights alone will do"],
  ["latency", "Time", true, "Measured share of a prefill"],
];
const WAYS = { fold: "folded", slot: "at run time", skipped: "left alone" };
// What is known only after a step has a column only then, so that the table stays narrow.
const LATER = ["bits", "scheme", "how", "op", "sqnr_db", "predicted_sqnr_db", "latency"];

function render({ model, el }) {
  const body = h("tbody");
  const heads = COLUMNS.map(([key, label, number, title]) => {
    const head = h("th", { scope: "col", title, class: number ? "qw-number" : null },
      h("button", { type: "button", "data-sort": key, onclick: () => sortBy(key) }, label, h("span", { "aria-hidden": "true" })));
    head.dataset.key = key;
    return head;
  });
  const grid = h("table", { class: "qw-table qw-grid-table", role: "grid", "aria-label": "layers" },
    h("thead", {}, h("tr", {}, heads)), body);
  const chosen = h("p", { class: "qw-detail", "aria-live": "polite" });
  const count = h("span", { class: "qw-detail", role: "status" });
  const filter = h("input", {
    type: "search", placeholder: "part of a name, or *.mlp.*", spellcheck: "false",
    oninput: () => { model.set("filter", filter.value); lazily(); },
    onchange: () => model.save_changes(),
  });
  let [timer, known] = [0, new Set()];
  const lazily = () => { clearTimeout(timer); timer = setTimeout(() => model.save_changes(), 300); };

  function sortBy(key) {
    const again = model.get("sort") === key;
    if (again && !model.get("descending")) model.set({ sort: "", descending: true });
    else model.set({ sort: key, descending: !again });
    model.save_changes();
  }

  function matches(name) {
    const wanted = model.get("filter").trim().toLowerCase();
    if (!/[*?]/.test(wanted)) return name.toLowerCase().includes(wanted);
    const pattern = wanted.replace(/[.+^${}()|[\]\\]/g, "\\$&").replaceAll("*", ".*").replaceAll("?", ".");
    return new RegExp(`^${pattern}$`).test(name.toLowerCase());
  }

  function sorted() {
    const key = model.get("sort");
    const rows = model.get("rows").filter((row) => matches(row.name));
    if (!key) return rows;
    const sign = model.get("descending") ? -1 : 1;
    const compare = (a, b) => (typeof a === "string" ? a.localeCompare(b, "en", { numeric: true }) : a - b);
    return rows.sort((a, b) => {
      if (a[key] === null || b[key] === null) return (a[key] === null) - (b[key] === null);
      return sign * compare(a[key], b[key]);
    });
  }

  function cell(row, key) {
    if (row[key] === null && key !== "bits") return "–";
    if (key === "outlier_ratio") return `${figure(row[key])}×`;
    if (key === "name") return brief(row.name).split(/(?<=\.)/).flatMap((part) => [part, h("wbr")]); // may break at dots
    if (key === "bits") return row.scheme === "float" ? "float" : row.bits === null ? "–" : String(row.bits);
    if (key === "scheme") return row.scheme.split(" (")[0]; // spelled out below the table
    if (key === "how") return WAYS[row.how] ?? row.how;
    if (key === "op") return row.op.split(/[.:]|linear_/).at(-1);
    if (key === "bytes") return bytes(row[key]);
    if (key === "latency") {
      return h("span", { class: "qw-share", style: `--share: ${row.latency / longest()}`, title: `${figure(row.ms)} ms` }, `${figure(100 * row.latency, 2)}%`);
    }
    if (key === "predicted_sqnr_db") return `≈ ${figure(row[key])}`; // never to be taken for measured
    return typeof row[key] === "number" ? figure(row[key]) : row[key] || "–";
  }

  const longest = () => model.get("rows").reduce((most, row) => Math.max(most, row.latency ?? 0), 1e-9);

  function draw() {
    const rows = sorted();
    const all = model.get("rows");
    known = new Set(LATER.filter((key) => all.every((row) => row[key] === null)));
    const columns = COLUMNS.filter(([key]) => !known.has(key));
    if (filter !== document.activeElement) filter.value = model.get("filter");
    count.textContent = rows.length === all.length ? `${all.length} linear layers` : `${rows.length} of ${all.length} linear layers`;
    const focused = body.contains(document.activeElement) ? document.activeElement.dataset.layer : null;
    body.replaceChildren(...rows.map((row) => h("tr", {
      tabindex: -1, "data-layer": row.name, "data-group": row.group,
      onclick: () => pick(row), onkeydown: keys,
    }, columns.map(([key, , number]) => h("td", {
      class: number ? "qw-number" : null, "data-key": key, "data-value": row[key] ?? "",
    }, cell(row, key))))));
    if (!rows.length) {
      body.append(h("tr", {}, h("td", { colspan: columns.length }, all.length ? "No layer has such a name." : "Load a model to see its layers.")));
    }
    for (const head of heads) {
      const on = head.dataset.key === model.get("sort");
      head.hidden = known.has(head.dataset.key);
      head.setAttribute("aria-sort", on ? (model.get("descending") ? "descending" : "ascending") : "none");
      head.querySelector("span").textContent = on ? (model.get("descending") ? " ▼" : " ▲") : "";
    }
    mark();
    if (focused) body.querySelector(`[data-layer="${CSS.escape(focused)}"]`)?.focus();
  }

  function mark() {
    const group = model.get("group");
    let reachable = null;
    for (const tr of body.rows) {
      const on = Boolean(group) && tr.dataset.group === group;
      tr.setAttribute("aria-selected", String(on));
      tr.tabIndex = -1;
      if (on) reachable ??= tr;
    }
    reveal(reachable);
    reachable ??= body.querySelector("[data-layer]");
    if (reachable) reachable.tabIndex = 0;
    const rows = model.get("rows").filter((row) => row.group === group && group);
    const why = [...new Set(rows.flatMap((row) => [row.scheme, row.reason, row.op && `${row.op}: ${row.op_reason}`]))].filter(Boolean);
    chosen.textContent = rows.length
      ? `Chosen input: ${brief(group)}, read by ${rows.length} layer${rows.length > 1 ? "s" : ""}.${why.length ? ` ${why.join("; ")}.` : ""}`
      : "";
  }

  /** Scroll the table, never the page, so that a row chosen elsewhere is seen. */
  function reveal(tr) {
    const box = grid.parentElement;
    if (!tr || !box || body.contains(document.activeElement)) return;
    const [above, below] = [tr.offsetTop - box.scrollTop - 28, tr.offsetTop + tr.offsetHeight - box.scrollTop - box.clientHeight];
    if (above < 0) box.scrollTop += above;
    else if (below > 0) box.scrollTop += below;
  }

  const pick = (row) => row.group && set(model, "group", row.group);

  function keys(event) {
    const rows = [...body.querySelectorAll("[data-layer]")];
    const at = rows.indexOf(event.currentTarget);
    const next = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: rows.length - 1, PageDown: at + 10, PageUp: at - 10 }[event.key];
    if (next !== undefined) rows[Math.max(0, Math.min(rows.length - 1, next))].focus();
    else if (event.key === "Enter" || event.key === " ") event.currentTarget.click();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  follow(model, ["rows", "sort", "descending", "filter"], soon(draw));
  model.on("change:group", mark);
  card(model, el, "layers", "Linear layers",
    h("div", { class: "qw-row" }, field("Filter", filter), button(model, "profile", "Time the layers", "Freeze the model and measure how long each layer takes"), count),
    h("div", { class: "qw-scroll", tabindex: -1 }, grid), chosen, jobBar(model));
}
