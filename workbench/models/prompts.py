"""The pinned prompts whose completions a language model of Python is judged by."""

import json
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from workbench.models.bundled import DATA
from workbench.models.text import files

PROMPT_TOKENS = 128
LIST = DATA / "prompts.json"


@dataclass(frozen=True)
class Prompt:
    """The first 128 tokens of the evaluation text from `start`, a top-level statement of `file`."""

    file: str
    start: int
    text: str
    ids: Tensor


def prompts(tokenizer: Any) -> list[Prompt]:
    """The prompts listed in the repository, cut with `tokenizer`."""
    texts = files("evaluation")
    made = []
    for row in json.loads(LIST.read_text(encoding="utf-8")):
        rest = texts[row["file"]][row["start"] :]
        head = rest[: 32 * PROMPT_TOKENS]
        encoded = tokenizer(head, add_special_tokens=False, return_tensors="pt")
        ids = encoded["input_ids"][0, :PROMPT_TOKENS]
        made.append(Prompt(row["file"], row["start"], tokenizer.decode(ids), ids))
    return made
