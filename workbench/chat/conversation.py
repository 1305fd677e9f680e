"""What was said, and how it is put to a model: by its chat template, or as text to go on with."""

import unicodedata
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from workbench.chat.settings import MESSAGE_LIMIT
from workbench.errors import WorkbenchError

KEPT = "\n\t"  # the control characters that text may hold


@dataclass(frozen=True)
class Message:
    """One turn."""

    role: Literal["system", "user", "assistant"]
    text: str


@dataclass
class Conversation:
    """The turns between a user and one model."""

    tokenizer: Any
    system: str = ""
    turns: list[Message] = field(default_factory=list)

    @property
    def templated(self) -> bool:
        """Whether the tokenizer says how a chat is written; if not, the model goes on with it."""
        return bool(getattr(self.tokenizer, "chat_template", None))

    def prompt(self, message: str, context: int | None, room: int) -> Tensor:
        """The tokens [1, T] that ask for an answer of up to `room` tokens to `message`.

        Where a `context` of so many tokens is too short for all, the oldest turns are left out.
        Raises WorkbenchError where even `message` alone does not fit.
        """
        turns = [*self.turns, Message("user", message)]
        while True:
            ids = self._encode(turns)
            if context is None or ids.shape[1] + room <= context:
                return ids
            if len(turns) == 1:
                raise WorkbenchError(
                    f"the message has {ids.shape[1]} tokens and the answer may have {room}, but "
                    f"the model's context is {context}: shorten one of them."
                )
            turns = turns[2:]

    def add(self, message: str, answer: str) -> None:
        """Note an exchange."""
        self.turns += [Message("user", message), Message("assistant", answer)]

    def amend(self, answer: str) -> None:
        """Put `answer` in place of the newest one."""
        self.turns[-1] = Message("assistant", answer)

    def _encode(self, turns: list[Message]) -> Tensor:
        if self.templated:
            first = [Message("system", self.system)] if self.system else []
            encoded = self.tokenizer.apply_chat_template(
                [{"role": turn.role, "content": turn.text} for turn in [*first, *turns]],
                add_generation_prompt=True,
                return_tensors="pt",
                return_dict=True,
            )
            return encoded["input_ids"]
        text = self.system + "".join(turn.text for turn in turns)
        ids = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return torch.tensor([ids], dtype=torch.long)


def cleaned(message: object) -> str:
    """A visitor's message as plain text, without control characters.

    Raises WorkbenchError where it is no text, empty, or longer than 20,000 characters.
    """
    if not isinstance(message, str):
        raise WorkbenchError(f"a message is text; found {type(message).__name__}.")
    if len(message) > MESSAGE_LIMIT:
        raise WorkbenchError(
            f"the message has {len(message):,} characters; at most {MESSAGE_LIMIT:,} are allowed."
        )
    text = message.replace("\r\n", "\n")
    text = "".join(c for c in text if c in KEPT or unicodedata.category(c) not in ("Cc", "Cs"))
    if not text.strip():
        raise WorkbenchError("the message is empty; write something to answer.")
    return text
