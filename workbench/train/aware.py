"""Quantization-aware training in transformers' trainer: quantize, calibrate, freeze at the end."""

from typing import TYPE_CHECKING

import torch
from torch import nn
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

from workbench.errors import WorkbenchError
from workbench.progress import track
from workbench.quant import Calibration, freeze, quantize
from workbench.quant.quantize import quantized_modules
from workbench.train.lengths import first_rows
from workbench.train.qat import prepare

if TYPE_CHECKING:
    from workbench.train.trainer import WorkbenchTrainer

CALIBRATION_BATCHES = 8


def make_aware(trainer: "WorkbenchTrainer", model: nn.Module) -> None:
    """Quantize `model` as the trainer's section says, and make what is quantized learn.

    A model that is not quantized stays as it is where there is no section. Raises WorkbenchError
    for a section that a session has to carry out, and where processes divide the weights among
    them, before anything is changed.
    """
    spec = trainer.quantization
    if (spec is not None or _unfrozen(model)) and _in_pieces(trainer):
        raise WorkbenchError(
            "the weights are divided among the processes (fsdp or ZeRO-3), and rounding and "
            "freezing need them whole: leave fsdp out, and several processes divide the "
            "optimizer's state alone, or train in float and quantize afterwards"
        )
    if spec is not None:
        if spec.bits or spec.algorithms:
            raise WorkbenchError(
                "bits and algorithms of a quantization section are chosen by a session: give the "
                "trainer the model that it built, before it is frozen, or a section without them"
            )
        quantize(
            model,
            weights=spec.weights,
            activations=spec.activations,
            optimizer=spec.optimizer,
            include=spec.include,
            exclude=spec.exclude,
        )
        if spec.activations is not None and not spec.activations.dynamic:
            _calibrate(trainer, model)
    if _unfrozen(model):
        prepare(model, first_rows(trainer, trainer._train_batch_size))


def check_trainable(model: nn.Module) -> None:
    """Raise WorkbenchError for a model that is frozen: nothing of its layers can learn."""
    frozen = next((name for name, one in quantized_modules(model) if one.frozen), None)
    if frozen is not None:
        raise WorkbenchError(f"{frozen} is frozen: give a trainer the model before it is frozen")


def finish(model: nn.Module) -> None:
    """Freeze what was trained; a model in float stays as it is."""
    if _unfrozen(model):
        freeze(model)


def _unfrozen(model: nn.Module) -> bool:
    return any(not module.frozen for _, module in quantized_modules(model))


def _in_pieces(trainer: "WorkbenchTrainer") -> bool:
    return trainer.is_fsdp_enabled or is_deepspeed_zero3_enabled()


def _calibrate(trainer: "WorkbenchTrainer", model: nn.Module) -> None:
    was_training = model.training
    model.eval()  # dropout would widen the ranges
    try:
        with torch.no_grad(), Calibration(model):
            size = trainer._train_batch_size
            for number in track(range(CALIBRATION_BATCHES), "calibrating"):
                model(**first_rows(trainer, size, skip=number * size))
    finally:
        model.train(was_training)
