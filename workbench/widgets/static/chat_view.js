function render({ model, el }) {
  const log = h("div", { class: "qw-chat-log", role: "log", "aria-label": "conversation", tabindex: 0 });
  const hint = h("p", { class: "qw-about" });
  const message = h("textarea", { rows: 3, "aria-label": "Message", placeholder: "def area(width, height):", "data-lm-suppress-shortcuts": true });
  const send = h("button", { type: "button", class: "qw-primary", "data-call": "ask", title: "Enter; Shift+Enter begins a new line" }, "Send");
  const stop = h("button", { type: "button", "data-call": "stop", onclick: halt }, "■ Stop");
  const forget = h("button", { type: "button", "data-call": "forget", title: "Begin a new conversation", onclick: () => call(model, "forget") }, "New conversation");
  const keep = h("button", { type: "button", "data-call": "keep", title: "Keep this quantized model, to talk to it beside the next recipe's", onclick: () => call(model, "keep") }, "Keep this variant");
  let asked = 0;
  let liveTurn = null;

  const answering = () => Boolean(model.get("live").message);
  function ask() {
    if (answering() || !message.value.trim()) return;
    asked = performance.now();
    log.dataset.asked = asked;
    call(model, "ask", message.value);
  }
  /** For the reader it ends here: what the models write until the kernel hears of it is not shown, nor kept. */
  function halt() {
    stop.disabled = true;
    call(model, "stop", liveTurn?.hold() ?? {});
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
    if (answer.first_ms !== null && answer.tokens) said.push(`first after ${figure(answer.first_ms)} ms`);
    if (answer.rate !== null) said.push(`${figure(answer.rate)} tokens/s`);
    if (answer.rate && original?.rate && answer !== original) said.push(`${figure(answer.rate / original.rate)} times the original's speed`);
    if (answer.ended === "stopped") said.push("stopped");
    if (answer.ended === "length") said.push("length reached");
    if (answer.ended && original?.ended && answer !== original && answer.same_tokens === null && answer.tokens) said.push([answer.ended, original.ended].includes("stopped") ? "= the original's words so far" : "= the original's words");
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
    let held = null; // the tokens of each answer that were here when Stop was pressed
    const hold = () => (held = Object.fromEntries([...columns].map(([name, { root }]) => [name, Number(root.dataset.tokens ?? 0)])));
    const update = (answers, names) => {
      for (const name of names) {
        if (!columns.has(name)) { columns.set(name, column(name)); grid.append(columns.get(name).root); }
      }
      for (const answer of answers) {
        const parts = columns.get(answer.name);
        if (!parts || (held && answer.tokens > (held[answer.name] ?? 0))) continue;
        if (answer.tokens && parts.root.dataset.shown === undefined && asked) parts.root.dataset.shown = performance.now() - asked;
        fill(parts, answer, answers.find(({ name }) => name === names[0]));
      }
    };
    update(said.answers, said.answers.map(({ name }) => name));
    return { message: said.message, root, update, hold };
  }

  const atEnd = () => log.scrollHeight - log.scrollTop - log.clientHeight < 60;
  function scroll(was) { if (was) log.scrollTop = log.scrollHeight; }

  /** It failed (the strip says why) or was taken back: the words return to where they were typed. */
  function withdraw() {
    if (!liveTurn || answering()) return;
    message.value ||= liveTurn.message;
    liveTurn.root.remove();
    liveTurn = null;
  }

  let drawn = [];
  follow(model, ["turns"], () => {
    const was = atEnd();
    const turns = model.get("turns");
    const goesOn = turns.length >= drawn.length && drawn.every(({ message }, i) => message === turns[i].message);
    if (!goesOn) { log.replaceChildren(); drawn = []; }
    turns.forEach((said, i) => {
      if (drawn[i] && i < turns.length - 1) return; // the newest may have been cut by a stop that came late
      if (!drawn[i]) {
        drawn[i] = liveTurn?.message === said.message ? liveTurn : turn(said);
        if (drawn[i] === liveTurn) liveTurn = null;
        else log.append(drawn[i].root);
      }
      drawn[i].update(said.answers, said.answers.map(({ name }) => name));
    });
    scroll(was);
  });
  follow(model, ["live"], () => {
    const live = model.get("live");
    if (live.message) {
      const was = atEnd();
      if (!liveTurn || liveTurn.message !== live.message) {
        liveTurn = turn({ message: live.message, answers: [] });
        log.append(liveTurn.root);
        message.value = "";
      }
      liveTurn.update(live.answers, live.answers.length ? [...new Set([...model.get("variants"), ...live.answers.map(({ name }) => name)])] : model.get("variants"));
      scroll(was);
    } else if (liveTurn) {
      setTimeout(withdraw, 500);
    }
    send.disabled = answering();
    stop.hidden = !answering();
    if (stop.hidden) stop.disabled = false;
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
