"""One process of a run of two, or the only one: `python one_of_two.py FOLDER KILL_AT RESUME`.

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


class Killed(TrainerCallback):
    """Ends the second process in the middle of a step, as an operating system does."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_begin(self, args, state, control, **keywords) -> None:
        if state.global_step == self.step and args.process_index == 1:
            os.kill(os.getpid(), signal.SIGKILL)


def main(folder: str, kill_at: int, resume: bool) -> None:
    torch.set_num_threads(1)
    world = int(os.environ.get("WORLD_SIZE", "1"))
    trainer = build(
        WorkbenchTrainer, folder, tiny_causal(), data_collator=next_tokens,
        per_device_train_batch_size=ROWS // world, max_steps=8, save_strategy="steps",
        save_steps=3, accelerate=["zero1"], ddp_backend="gloo" if world > 1 else None,
        callbacks=[Killed(kill_at)],
    )  # fmt: skip
    trainer.train(resume_from_checkpoint=resume or None)
    inner = trainer.optimizer.optimizer
    kept = getattr(inner, "optim", inner).state.values()
    size = sum(v.nbytes for state in kept for v in state.values() if torch.is_tensor(v))
    told = {"kept": trainer.choices.kept, "losses": losses(trainer), "bytes": size}
    if trainer.is_world_process_zero():
        Path(folder, "told.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3] == "resume")
