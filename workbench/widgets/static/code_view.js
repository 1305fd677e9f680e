function render({ model, el }) {
  const text = h("pre", { class: "qw-code", tabindex: 0, "aria-label": "code" });
  const tabs = [["python", "Python"], ["json", "Recipe (JSON)"]].map(([language, label]) => h("button", {
    type: "button", role: "tab", "data-tab": language, onclick: () => set(model, "language", language),
  }, label));
  const copied = h("span", { role: "status" });
  const copy = h("button", { type: "button", "data-call": "copy", onclick: async () => {
    try {
      await navigator.clipboard.writeText(text.textContent);
      copied.textContent = "✓ copied";
    } catch {
      getSelection().selectAllChildren(text); // no clipboard without https: select it instead
      copied.textContent = "selected; copy it with the keyboard";
    }
  } }, "Copy");
  follow(model, ["language", "python", "json"], () => {
    const language = model.get("language");
    text.textContent = model.get(language);
    text.dataset.language = language;
    copied.textContent = "";
    for (const tab of tabs) tab.setAttribute("aria-selected", String(tab.dataset.tab === language));
  });
  card(model, el, "code", "The same as code",
    h("div", { class: "qw-row" }, h("div", { role: "tablist", class: "qw-tabs", "aria-label": "form" }, tabs), copy, copied), text);
}
export default { render };
