"""One model's answer, token by token, with the time of each."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from threading import Event
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers.generation.stopping_criteria import StoppingCriteria, StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer

from workbench.chat.settings import ChatSettings


@dataclass
class Answer:
    """What one variant has said so far, in the words of `tokenizer`.

    `tokens` are its ids and `seconds` the time of each since the question was put, those of tokens
    that a stop took back included; `ended` says why it is over: the model's own end, the length
    asked for, or a stop.
    """

    variant: str
    tokenizer: Any = field(default=None, repr=False)
    tokens: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    ended: Literal["", "end", "length", "stopped"] = ""

    @property
    def text(self) -> str:
        """The tokens as text, decoded when asked for; half a letter waits for its other half."""
        text: str = self.tokenizer.decode(self.tokens, skip_special_tokens=True)
        return text.removesuffix("\N{REPLACEMENT CHARACTER}")

    def so_far(self) -> "Answer":
        """A copy that does not grow, for who reads it while another thread writes."""
        return replace(self, tokens=self.tokens[:], seconds=self.seconds[:])

    def cut(self, most: int) -> None:
        """Keep the first `most` tokens; what is taken back was made, and counts in the rate."""
        if len(self.tokens) > most:
            self.tokens, self.ended = self.tokens[:most], "stopped"

    @property
    def first_token_ms(self) -> float | None:
        """Milliseconds until the first token."""
        return 1e3 * self.seconds[0] if self.seconds else None

    @property
    def tokens_per_second(self) -> float | None:
        """The rate of decoding after the first token."""
        if len(self.seconds) < 2:
            return None
        return (len(self.seconds) - 1) / (self.seconds[-1] - self.seconds[0])


def first_divergence(answers: Sequence[Answer]) -> int | None:
    """The first position at which not all answers have the same token; None where there is none.

    An answer that ends by itself diverges where another one goes on; one that was stopped does not.
    """
    longest = max((len(answer.tokens) for answer in answers), default=0)
    stopped = (len(answer.tokens) for answer in answers if answer.ended == "stopped")
    for position in range(min(stopped, default=longest)):
        if len({tuple(answer.tokens[position : position + 1]) for answer in answers}) > 1:
            return position
    return None


def generate(
    model: nn.Module,
    prompt: Tensor,
    answer: Answer,
    settings: ChatSettings,
    stop: Event,
    notice: Callable[[Answer], None],
) -> Answer:
    """Fill `answer` from `prompt` [1, T]; `notice` hears of every token, `stop` ends it at one."""
    streamer = _Streamer(answer, notice)
    with torch.inference_mode(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        streamer.start()
        model.generate(  # type: ignore[operator]
            input_ids=prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=settings.max_new_tokens,
            pad_token_id=_padding(answer.tokenizer),
            use_cache=True,
            streamer=streamer,
            stopping_criteria=StoppingCriteriaList([_Stop(stop)]),
            **settings.sampling(),
        )
    if stop.is_set():
        answer.ended = "stopped"
    else:
        answer.ended = "length" if len(answer.tokens) >= settings.max_new_tokens else "end"
    notice(answer)
    return answer


def _padding(tokenizer: Any) -> int:
    found = tokenizer.pad_token_id
    return int(found if found is not None else tokenizer.eos_token_id or 0)


class _Stop(StoppingCriteria):
    """Ends generation after the token at which the event was found set."""

    def __init__(self, event: Event) -> None:
        self.event = event

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:  # noqa: ARG002
        return torch.full((len(input_ids),), self.event.is_set(), device=input_ids.device)


class _Streamer(BaseStreamer):
    """Notes each token and its time."""

    def __init__(self, answer: Answer, notice: Callable[[Answer], None]) -> None:
        self.answer, self.notice = answer, notice
        self.waiting_for_prompt = True

    def start(self) -> None:
        self.started = time.perf_counter()

    def put(self, value: Tensor) -> None:
        if self.waiting_for_prompt:  # generate hands over the prompt first
            self.waiting_for_prompt = False
            return
        self.answer.seconds.append(time.perf_counter() - self.started)
        self.answer.tokens += value.flatten().tolist()
        self.notice(self.answer)

    def end(self) -> None:
        """Nothing waits: every token was told as it came."""
