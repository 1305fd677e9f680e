"""Tiny models and data on which both trainers run in a second."""

from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    Trainer,
    TrainingArguments,
)

from workbench import WorkbenchTrainer, WorkbenchTrainingArguments

PAD = 0


class Sentences(Dataset):
    """Rows of 3 to 20 random tokens; the class is whether the first is even."""

    def __init__(self, count: int = 64, longest: int = 20, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.rows = []
        for _ in range(count):
            length = int(torch.randint(3, longest + 1, (), generator=generator))
            ids = torch.randint(1, 50, (length,), generator=generator).tolist()
            self.rows.append({"input_ids": ids, "labels": ids[0] % 2})

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.rows[index]


def pad_to_longest(rows: list[dict[str, Any]], width: int | None = None) -> dict[str, torch.Tensor]:
    width = width or max(len(row["input_ids"]) for row in rows)
    ids = torch.tensor([row["input_ids"] + [PAD] * (width - len(row["input_ids"])) for row in rows])
    labels = torch.tensor([row["labels"] for row in rows])
    return {"input_ids": ids, "attention_mask": (ids != PAD).long(), "labels": labels}


def next_tokens(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    batch = pad_to_longest(rows)
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    return batch | {"labels": labels}


def tiny_bert(dropout: float = 0.0, layers: int = 2) -> BertForSequenceClassification:
    torch.manual_seed(0)
    return BertForSequenceClassification(
        BertConfig(
            vocab_size=50, hidden_size=32, intermediate_size=64, num_hidden_layers=layers,
            num_attention_heads=2, max_position_embeddings=64,
            hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout,
        )
    )  # fmt: skip


def tiny_causal() -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=50, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
            num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=64,
        )
    )  # fmt: skip


def build(kind: type[Trainer], folder: Any, model: Any = None, **keywords: Any) -> Trainer:
    own = ("data_collator", "callbacks", "compute_metrics", "model_init", "optimizers",
           "compute_loss_func", "quantization", "teacher", "distillation")  # fmt: skip
    given = {name: keywords.pop(name) for name in own if name in keywords}
    data = keywords.pop("train_dataset", None) or Sentences()
    held_out = keywords.pop("eval_dataset", None) or Sentences(16, seed=1)
    arguments: dict[str, Any] = {
        "per_device_train_batch_size": 8,
        "max_steps": 6,
        "learning_rate": 1e-2,
        "logging_steps": 1,
        "save_strategy": "no",
        "use_cpu": True,
        "disable_tqdm": True,
        "report_to": [],
        "seed": 0,
    } | keywords
    if not issubclass(kind, WorkbenchTrainer):
        arguments = {k: v for k, v in arguments.items() if not k.startswith("accelerate")}
        args = TrainingArguments(str(folder), **arguments)
    else:
        arguments.setdefault("accelerate", ["heap", "fused_optimizer", "attention"])
        arguments.setdefault("accelerate_trial", False)
        args = WorkbenchTrainingArguments(str(folder), **arguments)
    if "model_init" not in given:
        given["model"] = model or tiny_bert()
    given.setdefault("data_collator", pad_to_longest)
    return kind(args=args, train_dataset=data, eval_dataset=held_out, **given)


def losses(trainer: Trainer) -> list[float]:
    return [row["loss"] for row in trainer.state.log_history if "loss" in row]
