"""A chat in which several variants of one model answer the same message, one after the other."""

from collections.abc import Callable, Mapping
from threading import Event, RLock
from typing import Any

from torch import nn

from workbench.chat.answer import Answer, generate
from workbench.chat.conversation import Conversation, cleaned
from workbench.chat.settings import ChatSettings
from workbench.errors import WorkbenchError


class Chat:
    """Variants by name over one tokenizer; each remembers its own answers.

    Variants that were copied from one model share every tensor that quantization left alone. They
    answer in turns, so that none slows another down and the rates can be compared.

    Raises WorkbenchError where there is no variant, or one cannot generate text.
    """

    def __init__(
        self,
        variants: Mapping[str, nn.Module],
        tokenizer: Any,
        settings: ChatSettings | None = None,
    ) -> None:
        _check(variants)
        self.variants = dict(variants)
        self.tokenizer = tokenizer
        self.settings = settings or ChatSettings()
        self._stop = Event()
        self._shown: Mapping[str, int] | None = None
        self._end = RLock()  # reentrant: Ctrl+C may stop the thread that holds it
        self.reset()

    def exchange(self, variants: Mapping[str, nn.Module]) -> None:
        """Put other variants in place; one that stays the same model remembers what was said."""
        _check(variants)
        before, said = self.variants, self.conversations
        self.variants = dict(variants)
        self.reset()
        for name, model in variants.items():
            if before.get(name) is model:
                self.conversations[name] = said[name]

    @property
    def templated(self) -> bool:
        """Whether messages are put by a chat template; if not, the model completes them."""
        return next(iter(self.conversations.values())).templated

    def reset(self) -> None:
        """Forget what was said."""
        self.conversations = {name: Conversation(self.tokenizer) for name in self.variants}
        self._answers: list[Answer] = []

    def ask(self, message: str, notice: Callable[[Answer], None] = lambda _: None) -> list[Answer]:
        """Let every variant answer `message`; `notice` hears of each token as it comes.

        Raises WorkbenchError, before any model runs, where the message cannot be put.
        """
        text = cleaned(message)
        with self._end:
            self._answers, self._shown = [], None
            self._stop.clear()
        prompts = {}
        for name, conversation in self.conversations.items():
            conversation.system = self.settings.system
            context = getattr(self.variants[name].config, "max_position_embeddings", None)
            prompts[name] = conversation.prompt(text, context, self.settings.max_new_tokens)
        answers = [Answer(name, self.tokenizer) for name in self.variants]
        for answer in answers:
            if self._stop.is_set():
                answer.ended = "stopped"
            else:
                model, prompt = self.variants[answer.variant], prompts[answer.variant]
                generate(model, prompt, answer, self.settings, self._stop, notice)
        with self._end:
            self._cut(answers)
            for answer in answers:
                self.conversations[answer.variant].add(text, answer.text)
            self._answers = answers
        return answers

    def stop(self, shown: Mapping[str, int] | None = None) -> None:
        """End every answer at its next token; may be called from any thread.

        `shown` are the tokens of each variant that a reader had seen by then: no answer keeps more,
        even if it ended by itself while the stop was on its way. Raises WorkbenchError where
        `shown` is anything else.
        """
        _check_shown(shown)
        with self._end:
            self._shown = self._shown if shown is None else shown
            self._stop.set()
            self._cut(self._answers)
            for answer in self._answers:
                self.conversations[answer.variant].amend(answer.text)

    def _cut(self, answers: list[Answer]) -> None:
        """Take back what the reader had not seen when it was stopped."""
        if self._shown is not None:
            for answer in answers:
                answer.cut(self._shown.get(answer.variant, 0))


def _check(variants: Mapping[str, nn.Module]) -> None:
    if not variants:
        raise WorkbenchError("a chat needs at least one model to answer.")
    for name, model in variants.items():
        if not callable(getattr(model, "generate", None)):
            raise WorkbenchError(
                f"{name} is a {type(model).__name__}, which cannot generate text; "
                "give causal language models."
            )


def _check_shown(shown: object) -> None:
    if shown is not None and not (
        isinstance(shown, Mapping)
        and all(type(tokens) is int and tokens >= 0 for tokens in shown.values())
    ):
        raise WorkbenchError(
            f"stop takes the number of tokens shown by variant, or None; found {str(shown)[:80]!r}."
        )
