"""What trainers are compared on: a model, rows to train on and to judge by."""

import copy
import csv
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset, Subset

from workbench.errors import WorkbenchError
from workbench.models import load

LONGEST = 128  # tokens; no sentence of SST-2 has as many
BLOCK = 256  # tokens in a row of code


@dataclass
class Material:
    """All that a Trainer is made of, but its arguments; `arguments` are those that it needs."""

    model: nn.Module
    train_dataset: Dataset[Any]
    eval_dataset: Dataset[Any]
    data_collator: Callable[[list[Any]], dict[str, Any]] | None = None
    processing_class: Any = None
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Subject:
    """`make(rows, judged)` gives the material with so many rows to train on and to judge by.

    It runs in each process anew, and gives the same each time.
    """

    name: str
    what: str
    make: Callable[[int, int], Material]
    judged: int = 872


class Sentences(Dataset[dict[str, Any]]):
    """Tokenized sentences with a class each."""

    def __init__(self, tokenizer: Any, rows: list[dict[str, str]]) -> None:
        texts = [row["sentence"] for row in rows]
        self.ids = tokenizer(texts, truncation=True, max_length=LONGEST)["input_ids"]
        self.labels = [int(row["label"]) for row in rows]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"input_ids": self.ids[index], "labels": self.labels[index]}


def sst2(data: Path | None, rows: int, judged: int) -> Material:
    """all-MiniLM-L6-v2 with a new head, on SST-2, dropout and all as its configuration says."""
    from transformers import BertForSequenceClassification

    folder = data or Path(os.environ.get("WORKBENCH_DATA", ""))
    loaded = load("minilm")
    config: Any = copy.deepcopy(loaded.model.config)
    config.num_labels = 2
    torch.manual_seed(0)
    model = BertForSequenceClassification(config)
    model.bert.load_state_dict(loaded.model.state_dict(), strict=False)
    train, held_out = (
        Sentences(loaded.tokenizer, _rows(folder / "sst2" / name, count))
        for name, count in (("train.tsv", rows), ("dev.tsv", judged))
    )
    return Material(model, train, held_out, processing_class=loaded.tokenizer)


def code(rows: int, judged: int) -> Material:
    """The bundled language model from scratch, on the standard library of this interpreter."""
    from transformers import LlamaForCausalLM

    from workbench.models.corpus import TokenBlocks, encode, is_held_out, sources

    loaded = load("pylm")
    config: Any = copy.deepcopy(loaded.model.config)
    torch.manual_seed(0)
    model = LlamaForCausalLM(config).float()
    parts: list[Dataset[Any]] = []
    for count, wanted in ((rows, False), (judged, True)):
        texts: list[str] = []
        for name, text in sources():
            if is_held_out(name) == wanted:
                texts.append(text)
            if sum(map(len, texts)) > 2 * 4 * BLOCK * count:  # 4 letters a token, or fewer
                break
        blocks = TokenBlocks(encode(loaded.tokenizer, texts), BLOCK)
        if len(blocks) < count:
            raise WorkbenchError(f"the standard library has {len(blocks)} rows of the {count}")
        parts.append(Subset(blocks, range(count)))
    return Material(model, parts[0], parts[1], arguments={"learning_rate": 1e-3})


def subject(name: str, data: Path | None = None) -> Subject:
    """The subject of this name. Raises WorkbenchError for another, and where data are missing."""
    if name == "pylm":
        return Subject(name, "pylm from scratch on Python code, 256 tokens a row", code, judged=16)
    if name == "minilm":
        folder = data or Path(os.environ.get("WORKBENCH_DATA", "."))
        if not (folder / "sst2" / "train.tsv").is_file():
            raise WorkbenchError(
                f"{folder / 'sst2' / 'train.tsv'} is not there: name the folder of SST-2 with "
                "--data, or in WORKBENCH_DATA"
            )
        return Subject(name, "all-MiniLM-L6-v2 fine-tuned on SST-2", partial(sst2, data))
    raise WorkbenchError(f"there is nothing to train named {name!r}; allowed: minilm, pylm")


def _rows(path: Path, count: int) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    if len(found) < count:
        raise WorkbenchError(f"{path} has {len(found)} rows of the {count} asked for")
    return found[:count]


def given(material: Material) -> Subject:
    """A subject of a user's own: copied into each process."""
    held_out: Any = material.eval_dataset
    return Subject(
        "yours",
        type(material.model).__name__,
        partial(_cut, material),
        min(128, len(held_out)),
    )


def _cut(material: Material, rows: int, judged: int) -> Material:
    cut = copy.copy(material)
    cut.model = copy.deepcopy(material.model)  # torch hands tensors over in memory that all share
    for name, count in (("train_dataset", rows), ("eval_dataset", judged)):
        dataset: Any = getattr(material, name)
        if len(dataset) < count:
            raise WorkbenchError(f"the {name} has {len(dataset)} rows of the {count} needed")
        setattr(cut, name, Subset(dataset, range(count)))
    return cut
