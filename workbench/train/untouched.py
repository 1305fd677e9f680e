"""A block of training steps after which everything is as before it."""

import copy
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from workbench.train.trainer import WorkbenchTrainer

STATE = ("optimizer", "lr_scheduler", "state", "control", "current_flos")


@contextmanager
def untouched(trainer: "WorkbenchTrainer") -> Iterator[None]:
    """Give back weights, buffers, optimizer, counters and random numbers as they were.

    The trainer makes a new optimizer inside the block, unless it was given one. Takes as much
    memory as the weights.
    """
    model = trainer.model
    tensors = [*model.parameters(), *model.buffers()]
    kept = [tensor.detach().clone() for tensor in tensors]
    given = trainer.optimizer
    given_state = {} if given is None else copy.deepcopy(given.state_dict())
    before = {name: getattr(trainer, name) for name in STATE}
    trainer.state = copy.deepcopy(trainer.state)
    was_training = model.training
    numpy_state, python_state = np.random.get_state(), random.getstate()
    with torch.random.fork_rng():
        try:
            yield
        finally:
            for tensor, value in zip(tensors, kept, strict=True):
                tensor.detach().copy_(value)
            for parameter in model.parameters():
                parameter.grad = None
            for name, value in before.items():
                setattr(trainer, name, value)
            if given is not None:
                given.load_state_dict(given_state)
            model.train(was_training)
            np.random.set_state(numpy_state)
            random.setstate(python_state)
