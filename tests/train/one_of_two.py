"""One process of a run of two, or the only one, as a function that a fresh process calls."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import torch
from train.helpers import Sentences, build, losses, next_tokens, tiny_causal
from transformers import TrainerCallback

from workbench import QuantArgs, WorkbenchTrainer
from workbench.recipe import QuantizationSpec

ROWS = 16  # of a step, over all processes


def aware() -> dict[str, Any]:
    weights, static = QuantArgs(dtype="int8"), QuantArgs(granularity="tensor")
    return {"quantization": QuantizationSpec(weights=weights, activations=static)}


def taught() -> dict[str, Any]:
    """With rows of one length: a lesson's loss is the mean over the tokens of each batch."""
    teacher = tiny_causal()
    torch.nn.init.normal_(teacher.lm_head.weight)
    held_out = Sentences(16, longest=3, seed=1)
    return {"teacher": teacher, "train_dataset": Sentences(longest=3), "eval_dataset": held_out}


# What a run of two is given beyond the run of one with which it is compared, and what both are.
DIVIDED = {"zero1": {"accelerate": ["zero1"]}, "fsdp": {"fsdp": True}}
LESSONS = {"plain": dict, "taught": taught, "aware": lambda: aware() | taught()}


class Killed(TrainerCallback):
    """Ends the second process in the middle of a step, as an operating system does."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_begin(self, args, state, control, **keywords) -> None:
        if state.global_step == self.step and args.process_index == 1:
            os.kill(os.getpid(), signal.SIGKILL)


def held(value) -> int:
    """Bytes of a tensor, or of this process's part of one that is divided."""
    return getattr(value, "_local_tensor", value).nbytes if torch.is_tensor(value) else 0


def train(
    how: str, lesson: str, folder: Path, where: dict[str, str], kill_at: int, resume: bool
) -> None:
    """Write to `folder` what was logged, and how many bytes of optimizer and weights are here."""
    os.environ |= where
    torch.set_num_threads(1)
    world = int(where.get("WORLD_SIZE", "1"))
    trainer = build(
        WorkbenchTrainer, folder, tiny_causal(), data_collator=next_tokens,
        per_device_train_batch_size=ROWS // world, max_steps=8, save_strategy="steps",
        save_steps=3, ddp_backend="gloo" if world > 1 else None, callbacks=[Killed(kill_at)],
        **{"accelerate": "none"} | LESSONS[lesson]() | (DIVIDED[how] if world > 1 else {}),
    )  # fmt: skip
    trainer.train(resume_from_checkpoint=resume or None)
    inner = trainer.optimizer.optimizer
    kept = getattr(inner, "optim", inner).state.values()
    told = {
        "losses": losses(trainer),
        "optimizer": sum(held(value) for state in kept for value in state.values()),
        "weights": sum(held(value) for value in trainer.model.parameters()),
        "held_out": trainer.evaluate()["eval_loss"],
    }
    if trainer.is_world_process_zero():
        Path(folder, "told.json").write_text(json.dumps(told))
