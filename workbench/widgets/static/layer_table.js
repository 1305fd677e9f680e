const COLUMNS = [
  ["name", "Layer", false], ["outlier_ratio", "Outliers", true], ["scheme", "Scheme", false],
  ["how", "Smoothed", false], ["op", "Op", false], ["bytes", "Bytes", true], ["sqnr_db", "SQNR dB", true],
];

function render({ model, el }) {
  const body = h("tbody");
  const heads = COLUMNS.map(([key, label, number]) => {
    const head = h("th", { scope: "col", class: number ? "qw-number" : null },
      h("button", { type: "button", "data-sort": key, onclick: () => sortBy(key) }, label, h("span", { "aria-hidden": "true" })));
    head.dataset.key = key;
    return head;
  });
  const grid = h("table", { class: "qw-table qw-grid-table", role: "grid", "aria-label": "layers" },
    h("thead", {}, h("tr", {}, heads)), body);
  const chosen = h("p", { class: "qw-detail", "aria-live": "polite" });

  function sortBy(key) {
    const again = model.get("sort") === key;
    if (again && !model.get("descending")) model.set({ sort: "", descending: true });
    else model.set({ sort: key, descending: !again });
    model.save_changes();
  }

  function sorted() {
    const key = model.get("sort");
    const rows = [...model.get("rows")];
    if (!key) return rows;
    const sign = model.get("descending") ? -1 : 1;
    const compare = (a, b) => (typeof a === "string" ? a.localeCompare(b) : a - b);
    return rows.sort((a, b) => {
      if (a[key] === null || b[key] === null) return (a[key] === null) - (b[key] === null);
      return sign * compare(a[key], b[key]);
    });
  }

  function cell(row, key) {
    if (key === "outlier_ratio") return row[key] === null ? "–" : `${figure(row[key])}×`;
    if (key === "name") return brief(row.name).split(/(?<=\.)/).flatMap((part) => [part, h("wbr")]); // may break at dots
    if (key === "scheme" && row.scheme) return row.scheme.split(" (")[0]; // spelled out below the table
    if (key === "op" && row.op) return row.op.split(/[.:]|linear_/).at(-1);
    if (key === "bytes") return bytes(row[key]);
    return typeof row[key] === "number" ? figure(row[key]) : row[key] || "–";
  }

  function draw() {
    const rows = sorted();
    const focused = body.contains(document.activeElement) ? document.activeElement.dataset.layer : null;
    body.replaceChildren(...rows.map((row) => h("tr", {
      tabindex: -1, "data-layer": row.name, "data-group": row.group,
      onclick: () => pick(row), onkeydown: keys,
    }, COLUMNS.map(([key, , number]) => h("td", {
      class: number ? "qw-number" : null, "data-key": key, "data-value": row[key] ?? "",
    }, cell(row, key))))));
    if (!rows.length) body.append(h("tr", {}, h("td", { colspan: COLUMNS.length }, "Load a model to see its layers.")));
    for (const head of heads) {
      const on = head.dataset.key === model.get("sort");
      head.setAttribute("aria-sort", on ? (model.get("descending") ? "descending" : "ascending") : "none");
      head.querySelector("span").textContent = on ? (model.get("descending") ? " ▼" : " ▲") : "";
    }
    mark();
    if (focused) body.querySelector(`[data-layer="${CSS.escape(focused)}"]`)?.focus();
  }

  function mark() {
    const group = model.get("group");
    const members = [];
    let reachable = null;
    for (const tr of body.rows) {
      const on = Boolean(group) && tr.dataset.group === group;
      tr.setAttribute("aria-selected", String(on));
      tr.tabIndex = -1;
      if (on) members.push(tr);
      if (on && !reachable) reachable = tr;
    }
    reachable ??= body.querySelector("[data-layer]");
    if (reachable) reachable.tabIndex = 0;
    const rows = model.get("rows").filter((row) => row.group === group && group);
    const why = [...new Set(rows.flatMap((row) => [row.scheme, row.reason, row.op && `${row.op}: ${row.op_reason}`]))].filter(Boolean);
    chosen.textContent = rows.length
      ? `Chosen input: ${brief(group)}, read by ${rows.length} layer${rows.length > 1 ? "s" : ""}.${why.length ? ` ${why.join("; ")}.` : ""}`
      : "";
  }

  const pick = (row) => row.group && set(model, "group", row.group);

  function keys(event) {
    const step = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
    if (step) {
      event.preventDefault();
      event.stopPropagation();
      event.currentTarget[step]?.focus();
    } else if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      event.stopPropagation();
      event.currentTarget.click();
    }
  }

  follow(model, ["rows", "sort", "descending"], draw);
  model.on("change:group", mark);
  card(model, el, "layers", "Layers", h("div", { class: "qw-scroll" }, grid), chosen);
}
export default { render };
