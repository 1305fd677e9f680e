"""A chat as a browser sees it: what was there when, by the browser's own clock."""

import itertools

WATCH = """
(log) => {
  const times = { asked: 0, stopped: 0 };
  const seen = window.qwSeen = { ...times, stopIn: "", read: {}, states: [], frames: [] };
  const button = (call) => document.querySelector(`[data-view=chat] button[data-call=${call}]`);
  const turns = () => [...log.querySelectorAll(".qw-chat-turn")];
  button("ask").addEventListener("click", () => {
    Object.assign(seen, { asked: performance.now(), before: turns().length });
  }, true);
  const read = (answer) => ({
    tokens: +(answer.dataset.tokens ?? 0),
    text: answer.querySelector(".qw-chat-text").textContent,
  });
  button("stop").addEventListener("click", () => {
    const answers = [...turns()[seen.before].querySelectorAll(".qw-chat-answer")];
    seen.stopped = performance.now();
    seen.read = Object.fromEntries(answers.map((answer) => [answer.dataset.variant, read(answer)]));
  }, true);
  new MutationObserver(() => {
    const turn = turns()[seen.before];
    for (const answer of turn?.querySelectorAll(".qw-chat-answer") ?? []) {
      const { variant, tokens, ended } = answer.dataset;
      if (tokens) seen.states.push({ variant, tokens: +tokens, ended, at: performance.now() });
      if (+tokens > 2 && !ended && variant === seen.stopIn) {
        seen.stopIn = "";
        button("stop").click();
      }
    }
  }).observe(log, { subtree: true, childList: true, characterData: true, attributes: true });
  const frame = (at) => { seen.frames.push(at); requestAnimationFrame(frame); };
  requestAnimationFrame(frame);
}
"""


def ask(chat, message: str) -> None:
    """Send `message`, and see it among what was said."""
    turns = chat.locator(".qw-chat-turn")
    before = turns.count()
    chat.get_by_label("Message").fill(message)
    chat.locator("button[data-call=ask]").click()
    turns.nth(before).wait_for()


def answers(chat) -> list:
    """The answers of the newest turn, once they have ended."""
    turn = chat.locator(".qw-chat-turn").last
    turn.locator(".qw-chat-answer:not([data-ended=''])").nth(1).wait_for()
    chat.locator(".qw-chat-log[aria-busy=false]").wait_for()
    return turn.locator(".qw-chat-answer").all()


class Watched:
    """Everything that the log of a chat showed from now on, in the browser's milliseconds."""

    def __init__(self, chat) -> None:
        self.page = chat.page
        chat.locator(".qw-chat-log").evaluate(WATCH)

    def clear(self) -> None:
        self.page.evaluate("Object.assign(window.qwSeen, { states: [], frames: [] })")

    def stop_in(self, variant: str) -> None:
        """Let the page press Stop as soon as it shows some words of `variant`."""
        self.page.evaluate("(variant) => { window.qwSeen.stopIn = variant; }", variant)

    def read(self) -> None:
        """Take over what was seen until now."""
        seen = self.page.evaluate("window.qwSeen")
        self.asked, self.stopped, self.frames = seen["asked"], seen["stopped"], seen["frames"]
        self.at_stop: dict[str, dict] = seen["read"]  # tokens and text of each answer
        self.states: dict[str, list[dict]] = {}
        for state in seen["states"]:
            known = self.states.setdefault(state["variant"], [])
            if not known or (known[-1]["tokens"], known[-1]["ended"]) != (
                state["tokens"],
                state["ended"],
            ):
                known.append(state)

    def first_ms(self, variant: str) -> float:
        """From the click to the first word of `variant` on the page."""
        return self.states[variant][0]["at"] - self.asked

    def rate(self, variant: str) -> float:
        """Tokens a second between the first and the last state of `variant` on the page."""
        first, last = self.states[variant][0], self.states[variant][-1]
        return 1e3 * (last["tokens"] - first["tokens"]) / (last["at"] - first["at"])

    def longest_frame_ms(self) -> float:
        """The longest that the page stood still while anything was written."""
        end = max(states[-1]["at"] for states in self.states.values())
        shown = [at for at in self.frames if self.asked <= at <= end]
        return max(b - a for a, b in itertools.pairwise(shown))
