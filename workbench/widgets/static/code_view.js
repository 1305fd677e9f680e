const TABS = [["python", "Python"], ["json", "Recipe (JSON)"], ["changes", "Changes"], ["runs", "Runs"]];
const FILES = { python: ["recipe.py", "text/x-python"], json: ["recipe.json", "application/json"] };
const APP = /\/voila\//.test(location.pathname);
const MOST = 64000; // characters of a recipe, as the kernel has it too

function render({ model, el }) {
  const text = h("pre", { class: "qw-code", tabindex: 0, "aria-label": "code" });
  const panel = h("div", { role: "tabpanel", id: unique("panel") });
  const tabs = TABS.map(([language, label]) => h("button", {
    type: "button", role: "tab", "data-tab": language, "aria-controls": panel.id,
    onclick: () => set(model, "language", language), onkeydown: turn,
  }, label));
  const says = h("span", { role: "status", class: "qw-detail" });
  const shown = () => (model.get("language") === "python" ? "python" : "json");

  function turn(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    event.stopPropagation();
    const next = tabs[(tabs.indexOf(event.currentTarget) + step + tabs.length) % tabs.length];
    next.focus();
    next.click();
  }

  async function clip(content, node) {
    try {
      await navigator.clipboard.writeText(content);
      says.textContent = "✓ copied";
    } catch {
      getSelection().selectAllChildren(node); // no clipboard without https: select it instead
      says.textContent = "selected; copy it with the keyboard";
    }
  }

  const copy = h("button", { type: "button", "data-call": "copy", onclick: () => clip(model.get(shown()), text) }, "Copy");
  const download = h("button", { type: "button", "data-call": "download", onclick: () => {
    const [name, type] = FILES[shown()];
    const address = URL.createObjectURL(new Blob([model.get(shown())], { type }));
    h("a", { href: address, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10_000);
    says.textContent = `✓ ${name}`;
  } }, "Download");
  const file = h("input", { type: "file", accept: ".json,application/json", hidden: true, "aria-label": "recipe file", onchange: async () => {
    const [chosen] = file.files;
    file.value = "";
    if (!chosen) return;
    if (chosen.size > MOST) {
      says.textContent = `${chosen.name} has ${bytes(chosen.size)}; a recipe has at most ${bytes(MOST)}.`;
      return;
    }
    says.textContent = "";
    model.send({ call: "load_recipe", arguments: [await chosen.text()] });
  } });
  const open = h("button", { type: "button", "data-call": "load_recipe", title: "A recipe file, JSON", onclick: () => file.click() }, "Open …");
  const address = h("input", { type: "text", readonly: true, "aria-label": "link to this recipe", onfocus: () => address.select() });
  const share = h("button", { type: "button", "data-call": "share", title: "A link that opens an app with this recipe", onclick: () => call(model, "share") }, "Link");
  const linked = h("div", { class: "qw-row qw-link" }, field(APP ? "Link to this recipe" : "Link to this recipe: append it to the address of an app", address),
    h("button", { type: "button", "data-call": "copy", onclick: () => clip(address.value, linked) }, "Copy link"));
  follow(model, ["link"], () => {
    const query = model.get("link");
    linked.hidden = !query;
    address.value = query && APP ? `${location.origin}${location.pathname}${query}` : query;
  });

  const against = h("select", { onchange: () => set(model, "against", against.value) });
  const change = field("Compared with", against);
  follow(model, ["others", "against"], () => options(against, model.get("others"), model.get("against")));

  function drawChanges() {
    const rows = model.get("changes");
    const made = rows.length
      ? table("Fields that differ", [["Field", false], ["There", false], ["Now", false]],
        rows.map(({ field: name, before, after }) => [h("code", {}, name), h("del", {}, before || "–"), h("ins", {}, after || "–")]))
      : h("p", {}, "No difference.");
    made.classList.add("qw-wrapping");
    return [h("div", { class: "qw-row" }, change), h("div", { class: "qw-scroll" }, made)];
  }

  function drawRuns() {
    const rows = model.get("runs");
    const lost = model.get("history") ? h("p", { class: "qw-note" }, model.get("history")) : "";
    if (!rows.length) return [h("p", {}, "Nothing measured of this model on this machine yet: Compare, or Measure."), lost];
    const made = table("Measured with this model, machine and version, newest first",
      [["When", false], ["Recipe", false], [rows[0].perplexity === null ? "1 − cosine" : "KL, nats a token", true], ["Perplexity", true], ["MB", true], ["Prefill, ms", true], ["Judged on", true], ["", false]],
      rows.map((run) => [run.made, `${run.label}${run.current ? " (in force)" : ""}`, figure(run.error), figure(run.perplexity, 4), figure(run.bytes / 1e6), figure(run.ms), run.samples.toLocaleString("en"),
        h("button", { type: "button", "data-call": "restore", "aria-label": `Restore ${run.label}`, onclick: () => model.send({ call: "restore", arguments: [run.key] }) }, "Restore")]));
    made.classList.add("qw-wrapping");
    return [h("div", { class: "qw-scroll" }, made), lost];
  }

  follow(model, ["language", "python", "json", "changes", "runs", "history"], soon(() => {
    const language = model.get("language");
    for (const tab of tabs) {
      const on = tab.dataset.tab === language;
      tab.setAttribute("aria-selected", String(on));
      tab.tabIndex = on ? 0 : -1;
    }
    says.textContent = "";
    if (language === "changes" || language === "runs") {
      panel.replaceChildren(...(language === "changes" ? drawChanges() : drawRuns()));
      return;
    }
    text.textContent = model.get(language);
    text.dataset.language = language;
    if (text.parentNode !== panel) panel.replaceChildren(text);
  }));
  card(model, el, "code", "The same as code",
    h("div", { class: "qw-row" }, h("div", { role: "tablist", class: "qw-tabs", "aria-label": "form" }, tabs)),
    h("div", { class: "qw-row" }, copy, download, open, file, share, says), linked, panel);
}
