"""Talk to the float model and to what recipes make of it, side by side, as they write."""

from threading import RLock
from typing import TYPE_CHECKING, Any, ClassVar

import traitlets as t
from torch import nn

from workbench.chat import Answer, Chat, ChatSettings, first_divergence
from workbench.chat.conversation import cleaned
from workbench.errors import WorkbenchError
from workbench.recipe import summary
from workbench.widgets._base import View, checked
from workbench.widgets._teller import Teller

if TYPE_CHECKING:
    from workbench.session import Job

SETTINGS = ("max_new_tokens", "temperature", "top_p", "top_k", "seed", "system")
ORIGINAL = "original"
TURNS_KEPT = 50
KEPT = 1  # quantized variants beside the newest
TELL_SECONDS = 0.05  # between two updates of a growing answer: smooth, and 1 % of a core


class ChatView(View):
    """One message, answered by the original and by one or two quantized variants in turn."""

    module = "chat_view"
    calls = ("ask", "stop", "forget", "keep")
    verbs: ClassVar = ("chat",)

    turns = t.List(t.Dict()).tag(sync=True)
    """What was said: dictionaries of `message` and `answers`; an answer has `name`, `text`,
    `tokens`, `first_ms`, `rate` (tokens a second), `ended`, and `common`, the characters before it
    differs from the original's first answer (None where it does not).
    """
    live = t.Dict().tag(sync=True)
    """The turn that is being answered, in the same form; empty when none is."""
    variants = t.List(t.Unicode()).tag(sync=True)
    """Who answers the next message, in order."""
    talks = t.Bool(True).tag(sync=True)
    """Whether the loaded model is a language model; true before one is loaded."""
    templated = t.Bool(False).tag(sync=True)
    """Whether the tokenizer has a chat template; if not, the model goes on with the text."""
    max_new_tokens = t.Int(128).tag(sync=True)
    """Longest answer, in tokens.
    - Type: `int` from 1 to 4096, default: 128
    """
    temperature = t.Float(0.0).tag(sync=True)
    """How freely tokens are drawn; 0 takes the likeliest.
    - Type: `float` from 0 to 5, default: 0
    """
    top_p = t.Float(1.0).tag(sync=True)
    """Draw among the likeliest tokens that make up this share.
    - Type: `float` above 0, at most 1, default: 1
    """
    top_k = t.Int(50).tag(sync=True)
    """Draw among this many likeliest tokens; 0 for all.
    - Type: `int` of at least 0, default: 50
    """
    seed = t.Int(0).tag(sync=True)
    """What is drawn is the same for the same seed.
    - Type: `int` of at least 0, default: 0
    """
    system = t.Unicode("").tag(sync=True)
    """What the model is told to be, before all messages.
    - Type: `str`, default: `""`
    """

    def __init__(self, session: Any, **keywords: Any) -> None:
        self._chat: Chat | None = None
        self._kept: dict[str, nn.Module] = {}
        self._asked: Job | None = None
        self._newest: list[Answer] | None = None  # the answers to it; None until models are asked
        self._end = RLock()  # held where an answer ends, and by a stop
        super().__init__(session, **keywords)

    @t.validate(*SETTINGS)
    def _valid(self, proposal: dict[str, Any]) -> Any:
        with checked():
            ChatSettings().changed(**{proposal["trait"].name: proposal["value"]})
        return proposal["value"]

    def ask(self, message: str) -> "Job":
        """Queue `message` for every variant; the recipe's model is frozen first if need be."""
        text = cleaned(message)
        self._problem = ""
        with self._end:
            self._asked = self._newest = None
            self.live = {"message": text, "answers": []}
            job: Job = self.session.queue("chat", lambda: self._answer(text))
            self._asked = job
        self.follow()
        return job

    def stop(self, shown: dict[str, int] | None = None) -> None:
        """End the answers at their next token; what was written stays.

        `shown`, the tokens that a page had of each variant when Stop was pressed, holds them to
        that. A question that no model has been asked yet is withdrawn.
        """
        with self._end:
            if self._newest is None and self._asked is not None:
                self._asked.cancel()
            elif self._chat is not None:
                self._chat.stop(shown)
                if self._newest:  # they ended while the stop was on its way
                    self.turns = [*self.turns[:-1], self._compared(self.turns[-1]["message"])]

    def cancel(self) -> None:
        """Stop the answers, and every job of the session."""
        self.stop()
        super().cancel()

    def forget(self) -> None:
        """Begin a new conversation."""
        if self._chat is not None:
            self._chat.reset()
        self.turns, self._newest = [], []

    def keep(self) -> None:
        """Keep the quantized model of now as a variant, to talk to it beside the next recipe's."""
        if self.session.model is None or not self.session.frozen:
            raise WorkbenchError("there is no frozen model to keep yet; ask something first.")
        self._kept = {summary(self.session.recipe): self.session.model}
        self.follow()

    def refresh(self) -> None:
        """Show who would answer."""
        recipe = self.session.recipe
        self.variants = list(dict.fromkeys([ORIGINAL, *self._kept, summary(recipe)]))
        loaded = self.session.loaded
        self.talks = loaded is None or loaded.kind == "causal-lm"
        if self._asked is not None and self._asked.ended:
            self.live = {}  # also where it was cancelled while it waited for its turn
        self.templated = bool(loaded and getattr(loaded.tokenizer, "chat_template", None))

    def _answer(self, text: str) -> list[Answer]:
        try:
            chat = self._ready()
            with self._end:
                assert self._asked is not None
                self._asked.check()  # whether Stop was pressed while the model was made ready
                self._newest = []
            answers = self._told(chat, text)
            with self._end:
                self._newest = answers
                self.turns = [*self.turns, self._compared(text)][-TURNS_KEPT:]
        finally:
            self.live = {}
        return answers

    def _ready(self) -> Chat:
        session = self.session
        loaded = session.load()
        if loaded.kind != "causal-lm":
            raise WorkbenchError(
                f"{loaded.name} ({loaded.kind}) cannot chat; load a language model, such as pylm."
            )
        newest = session.freeze()
        models = {ORIGINAL: loaded.model, **self._kept, summary(session.recipe): newest}
        settings = ChatSettings().changed(**{name: getattr(self, name) for name in SETTINGS})
        if self._chat is None or self._chat.tokenizer is not loaded.tokenizer:
            self._chat = Chat(models, loaded.tokenizer)
        else:
            self._chat.exchange(models)
        self._chat.settings = settings
        return self._chat

    def _told(self, chat: Chat, text: str) -> list[Answer]:
        """The answers to `text`, shown as they grow."""
        growing: dict[str, Answer] = {}

        def tell() -> None:
            answers = [answer.so_far() for answer in list(growing.values())]
            self.live = {"message": text, "answers": [_row(answer) for answer in answers]}

        def notice(answer: Answer) -> None:
            growing[answer.variant] = answer
            teller.hint()

        with Teller(tell, TELL_SECONDS) as teller:
            return chat.ask(text, notice)

    def _compared(self, text: str) -> dict[str, Any]:
        """The newest turn, each answer beside the original's."""
        assert self._chat is not None
        assert self._newest is not None
        rows = []
        for answer in self._newest:
            at = first_divergence([self._newest[0], answer])
            common = None
            if at is not None:
                before = self._chat.tokenizer.decode(answer.tokens[:at], skip_special_tokens=True)
                common = len(before)
            rows.append(_row(answer) | {"common": common, "same_tokens": at})
        return {"message": text, "answers": rows}


def _row(answer: Answer) -> dict[str, Any]:
    return {
        "name": answer.variant,
        "text": answer.text,
        "tokens": len(answer.tokens),
        "first_ms": answer.first_token_ms,
        "rate": answer.tokens_per_second,
        "ended": answer.ended,
        "common": None,
        "same_tokens": None,
    }
