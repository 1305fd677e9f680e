function render({ model, el }) {
  const log = h("div", { class: "qw-chat-log", role: "log", "aria-label": "conversation", tabindex: 0 });
  const hint = h("p", { class: "qw-about" });
  const message = h("textarea", { rows: 3, "aria-label": "Message", placeholder: "def area(width, height):", "data-lm-suppress-shortcuts": true });
  const send = h("button", { type: "button", class: "qw-primary", "data-call": "ask", title: "Enter; Shift+Enter begins a new line" }, "Send");
  const stop = h("button", { type: "button", "data-call": "stop", onclick: () => call(model, "stop") }, "■ Stop");
  const forget = h("button", { type: "button", "data-call": "forget", title: "Begin a new conversation", onclick: () => call(model, "forget") }, "New conversation");
  const keep = h("button", { type: "button", "data-call": "keep", title: "Keep this quantized model, to talk to it beside the next recipe's", onclick: () => call(model, "keep") }, "Keep this variant");
  let asked = 0;
  let liveTurn = null;

  const answering = () => Boolean(model.get("live").message);
  function ask() {
    if (answering() || !message.value.trim()) return;
    asked = performance.now();
    log.dataset.asked = asked;
    model.send({ call: "ask", arguments: [message.value] });
  }
  send.addEventListener("click", ask);
  message.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    ask();
  });

  const number = (name, attributes) => {
    const whole = attributes.step === 1;
    const node = h("input", { type: "number", ...attributes, onchange: () => set(model, name, whole ? Math.trunc(node.valueAsNumber) || 0 : node.valueAsNumber || 0) });
    follow(model, [name], () => { node.value = model.get(name); });
    return node;
  };
  const system = h("input", { type: "text", onchange: () => set(model, "system", system.value) });
  follow(model, ["system"], () => { system.value = model.get("system"); });

  /** Everything is put as text: nothing that was typed or generated is ever parsed. */
  function fill(parts, answer, original) {
    const { text, speed, root } = parts;
    text.replaceChildren(...parted(answer.text, answer.common, answer.same_tokens));
    const said = [`${answer.tokens} token${answer.tokens === 1 ? "" : "s"}`];
    if (answer.first_ms !== null) said.push(`first after ${figure(answer.first_ms)} ms`);
    if (answer.rate !== null) said.push(`${figure(answer.rate)} tokens/s`);
    if (answer.rate && original?.rate && answer !== original) said.push(`${figure(answer.rate / original.rate)} times the original's speed`);
    if (answer.ended === "stopped") said.push("stopped");
    if (answer.ended === "length") said.push("length reached");
    if (answer.ended && original?.ended && answer !== original && answer.same_tokens === null && answer.tokens) said.push("= the original's words");
    speed.textContent = said.join(" · ");
    Object.assign(root.dataset, { tokens: answer.tokens, ended: answer.ended, rate: answer.rate ?? "", first: answer.first_ms ?? "", same: answer.same_tokens ?? "" });
  }

  function column(name) {
    const text = h("div", { class: "qw-chat-text" });
    const speed = h("div", { class: "qw-chat-speed" });
    const root = h("div", { class: "qw-chat-answer", "data-variant": name }, h("h4", {}, name), text, speed);
    return { root, text, speed };
  }

  function turn(said) {
    const columns = new Map();
    const grid = h("div", { class: "qw-chat-answers" });
    const root = h("div", { class: "qw-chat-turn" }, h("div", { class: "qw-chat-message" }, h("span", { class: "qw-hidden-words" }, "You: "), said.message), grid);
    const update = (answers, names) => {
      for (const name of names) {
        if (!columns.has(name)) { columns.set(name, column(name)); grid.append(columns.get(name).root); }
      }
      for (const answer of answers) {
        const parts = columns.get(answer.name);
        if (!parts) continue;
        if (answer.tokens && parts.root.dataset.shown === undefined && asked) parts.root.dataset.shown = performance.now() - asked;
        fill(parts, answer, answers.find(({ name }) => name === names[0]));
      }
    };
    update(said.answers, said.answers.map(({ name }) => name));
    return { root, update };
  }

  const atEnd = () => log.scrollHeight - log.scrollTop - log.clientHeight < 60;
  function scroll(was) { if (was) log.scrollTop = log.scrollHeight; }

  let drawn = [];
  follow(model, ["turns"], () => {
    const was = atEnd();
    const turns = model.get("turns");
    const goesOn = turns.length >= drawn.length && drawn.every((said, i) => said === turns[i].message);
    if (!goesOn) { log.replaceChildren(); drawn = []; }
    for (const said of turns.slice(drawn.length)) {
      if (liveTurn && liveTurn.message === said.message) {
        liveTurn.update(said.answers, said.answers.map(({ name }) => name));
        liveTurn = null;
      } else log.append(turn(said).root);
      drawn.push(said.message);
    }
    scroll(was);
  });
  follow(model, ["live"], () => {
    const live = model.get("live");
    if (live.message) {
      const was = atEnd();
      if (!liveTurn || liveTurn.message !== live.message) {
        liveTurn = { message: live.message, ...turn({ message: live.message, answers: [] }) };
        log.append(liveTurn.root);
        message.value = "";
      }
      liveTurn.update(live.answers, live.answers.length ? [...new Set([...model.get("variants"), ...live.answers.map(({ name }) => name)])] : model.get("variants"));
      scroll(was);
    } else if (liveTurn) {
      setTimeout(() => { if (liveTurn && !answering()) { liveTurn.root.remove(); liveTurn = null; } }, 500); // it failed: the strip says why
    }
    send.disabled = answering();
    stop.hidden = !answering();
    forget.disabled = keep.disabled = answering();
    log.setAttribute("aria-busy", answering());
  });
  follow(model, ["variants", "templated", "talks"], () => {
    message.disabled = !model.get("talks");
    if (message.disabled) {
      hint.textContent = "The loaded model is no language model and cannot chat.";
      return;
    }
    const names = model.get("variants").join(", ");
    hint.textContent = `${names} answer one after the other, so that none slows another. ${model.get("templated") ? "" : "The tokenizer has no chat template: the models go on with your text."}`;
  });

  card(model, el, "chat", "Talk to both", noteLine(model), hint, log,
    h("div", { class: "qw-chat-entry" }, message, h("div", { class: "qw-chat-buttons" }, send, stop)),
    h("div", { class: "qw-row" }, forget, keep),
    h("details", {}, h("summary", {}, "Settings"), h("div", { class: "qw-row" },
      field("Longest answer, tokens", number("max_new_tokens", { min: 1, max: 4096, step: 1 })),
      field("Temperature", number("temperature", { min: 0, max: 5, step: "any" }), "0 takes the likeliest token"),
      field("Top p", number("top_p", { min: 0, max: 1, step: "any" })),
      field("Top k", number("top_k", { min: 0, step: 1 }), "0 for all"),
      field("Seed", number("seed", { min: 0, step: 1 })),
      field("System prompt", system, "What the model is told to be"))),
    jobBar(model));
}
