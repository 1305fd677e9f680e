// Shows one step of the page at a time. Which one is a matter of the page alone: the kernel is told
// and not asked, so that a step opens at once while it computes.

const rule = (name) => `.qw-bench[data-step="${name}"] .qw-panel:not(.qw-panel-${name}) { display: none !important; }`;

function render({ model, el }) {
  const rules = h("style");
  const list = h("div", { role: "tablist", class: "qw-steps", "aria-label": "steps" });
  const next = h("button", { type: "button", class: "qw-next", onclick: () => go(following()) });
  const name = h("span", { class: "qw-step-model" });

  const names = () => model.get("steps").map(([step]) => step);
  const following = () => (model.get("step") === "all" ? undefined : names()[names().indexOf(model.get("step")) + 1]);

  function go(step) {
    if (!step) return;
    set(model, "step", step);
    list.querySelector(`[data-step="${step}"]`)?.focus({ preventScroll: true });
  }

  function turn(event) {
    const all = [...list.querySelectorAll("[role=tab]")];
    const at = all.indexOf(event.currentTarget);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: all.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    go(all[(to + all.length) % all.length].dataset.step);
  }

  function draw() {
    const now = model.get("step");
    const done = model.get("done");
    rules.textContent = names().map((step) => rule(step)).join("\n");
    const had = list.contains(document.activeElement);
    list.replaceChildren(...[...model.get("steps"), ["all", "All"]].map(([step, label], i) => h("button", {
      type: "button", role: "tab", "data-step": step, "aria-selected": String(step === now), tabindex: step === now ? 0 : -1,
      title: step === "all" ? "Every step on one page" : null,
      onclick: () => go(step), onkeydown: turn,
    }, step === "all" ? "" : h("span", { class: "qw-step-number", "aria-hidden": "true" }, done.includes(step) ? "✓" : String(i + 1)),
    label, done.includes(step) ? h("span", { class: "qw-hidden-words" }, " (done)") : "")));
    if (had) list.querySelector("[aria-selected=true]")?.focus({ preventScroll: true });
    const label = model.get("steps").find(([step]) => step === following())?.[1];
    next.hidden = !label;
    next.textContent = label ? `Next: ${label} →` : "Next";
    mount(5);
  }

  // The page is put together around this view only after it was drawn.
  function mount(tries) {
    const bench = el.closest(".qw-bench");
    if (bench) bench.dataset.step = model.get("step");
    else if (tries) setTimeout(() => mount(tries - 1), 60);
  }

  const kept = h("span");
  const left = h("div", { class: "qw-note qw-row qw-left", role: "status" }, kept, h("span", { class: "qw-spring" }),
    h("button", { type: "button", class: "qw-primary", "data-call": "restore_left", onclick: () => call(model, "restore_left") }, "Restore it"),
    h("button", { type: "button", "data-call": "dismiss_left", onclick: () => call(model, "dismiss_left") }, "Keep this one"));
  follow(model, ["left"], () => {
    const { label, made, fields } = model.get("left");
    left.hidden = !label;
    kept.textContent = label ? `This notebook was left with another recipe (${made}): ${label}; ${fields} field${fields === 1 ? "" : "s"} differ${fields === 1 ? "s" : ""} from the one in force.` : "";
  });
  follow(model, ["steps", "step", "done"], soon(draw));
  follow(model, ["model"], () => { name.textContent = model.get("model") || "no model yet"; });
  el.append(rules, h("section", { class: "qw qw-stepper", "data-view": "stepper", "aria-label": "the workbench" },
    h("div", { class: "qw-row" }, list, h("span", { class: "qw-spring" }), name,
      undoButtons(model), next),
    left, jobBar(model), errorStrip(model)));
}
