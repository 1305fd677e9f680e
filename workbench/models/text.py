"""The pinned calibration and evaluation text, and how text becomes batches."""

import ast
import re
from functools import cache
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.models.bundled import DATA

Split = Literal["calibration", "evaluation"]

SENTENCE_WORDS = 6  # shorter ones say too little to have a meaning of their own


@cache
def files(split: Split) -> dict[str, str]:
    """The pinned Python files of a split, by name: this project's own code, split by file."""
    if split not in get_args(Split):
        raise WorkbenchError(f"split {split!r} is unknown; allowed: {', '.join(get_args(Split))}")
    folder = DATA / "text" / split
    return {p.name: p.read_text(encoding="utf-8") for p in sorted(folder.glob("*.py.txt"))}


@cache
def sentences(split: Split) -> tuple[str, ...]:
    """English sentences of a split: the first ones of its docstrings."""
    found: dict[str, None] = {}
    for source in files(split).values():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                text = " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split())
                for sentence in re.split(r"(?<=[.:;]) ", text):
                    if len(sentence.split()) >= SENTENCE_WORDS:
                        found.setdefault(sentence)
    return tuple(found)


def token_ids(tokenizer: Any, texts: list[str]) -> list[int]:
    """The tokens of all `texts`, one after the other, without special ones."""
    ids: list[int] = []
    for text in texts:
        ids.extend(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
    return ids


def token_batches(
    tokenizer: Any, texts: list[str], length: int, samples: int | None, batch_size: int, seed: int
) -> list[dict[str, Tensor]]:
    """Cut `texts` into consecutive sequences of `length` tokens; `seed` draws `samples` of them.

    Raises WorkbenchError where there is not even one sequence.
    """
    ids = token_ids(tokenizer, texts)
    available = len(ids) // length
    if available == 0:
        raise WorkbenchError(
            f"the text has {len(ids)} tokens, less than one sequence of {length}: "
            "give more text or a smaller length"
        )
    blocks = torch.tensor(ids[: available * length]).view(available, length)
    chosen = blocks[draw(available, samples, seed)]
    return [
        {"input_ids": part, "attention_mask": torch.ones_like(part)}
        for part in chosen.split(batch_size)
    ]


def sentence_batches(
    tokenizer: Any, texts: list[str], length: int, samples: int | None, batch_size: int, seed: int
) -> list[dict[str, Tensor]]:
    """Tokenize `samples` sentences drawn by `seed`, padded to the longest of each batch."""
    if not texts:
        raise WorkbenchError("there is no sentence to run: give a text with one sentence a line")
    chosen = [texts[index] for index in draw(len(texts), samples, seed)]
    return [
        dict(
            tokenizer(
                chosen[start : start + batch_size],
                padding=True,
                truncation=True,
                max_length=length,
                return_tensors="pt",
            )
        )
        for start in range(0, len(chosen), batch_size)
    ]


def draw(available: int, samples: int | None, seed: int) -> list[int]:
    """Which of `available` items to take, in order: `samples` drawn by `seed`, None for all."""
    if samples is None or samples >= available:
        return list(range(available))
    order = torch.randperm(available, generator=torch.Generator().manual_seed(seed))
    return sorted(order[:samples].tolist())
