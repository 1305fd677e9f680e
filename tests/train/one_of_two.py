"""One process of a run of two, or the only one: `python one_of_two.py HOW FOLDER KILL_AT RESUME`.

Prints what it logged and how many bytes of the optimizer's state it keeps.
"""

import json
import os
import signal
import sys
from pathlib import Path

import torch
from transformers import TrainerCallback

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.train.helpers import build, losses, next_tokens, tiny_causal
from workbench import WorkbenchTrainer

ROWS = 16  # of a step, over all processes
HOW = {"zero1": {"accelerate": ["zero1"]}, "fsdp": {"accelerate": "none", "fsdp": True}}


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


def main(how: str, folder: str, kill_at: int, resume: bool) -> None:
    torch.set_num_threads(1)
    world = int(os.environ.get("WORLD_SIZE", "1"))
    trainer = build(
        WorkbenchTrainer, folder, tiny_causal(), data_collator=next_tokens,
        per_device_train_batch_size=ROWS // world, max_steps=8, save_strategy="steps",
        save_steps=3, ddp_backend="gloo" if world > 1 else None, callbacks=[Killed(kill_at)],
        **(HOW[how] if world > 1 else {"accelerate": "none"}),
    )  # fmt: skip
    trainer.train(resume_from_checkpoint=resume or None)
    inner = trainer.optimizer.optimizer
    kept = getattr(inner, "optim", inner).state.values()
    told = {
        "losses": losses(trainer),
        "optimizer": sum(held(value) for state in kept for value in state.values()),
        "weights": sum(held(value) for value in trainer.model.parameters()),
    }
    if trainer.is_world_process_zero():
        Path(folder, "told.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4] == "resume")
