"""Smaller models: distillation and structured pruning."""

from workbench.compress.distil import Learned, Training, distil
from workbench.compress.examples import Examples
from workbench.compress.importance import Importance, importance
from workbench.compress.prune import Pruned, prune
from workbench.compress.students import classifier, of_layers
from workbench.compress.targets import Kept, Target
from workbench.train.distillation import Distillation

__all__ = [
    "Distillation",
    "Examples",
    "Importance",
    "Kept",
    "Learned",
    "Pruned",
    "Target",
    "Training",
    "classifier",
    "distil",
    "importance",
    "of_layers",
    "prune",
]
