"""Interactive quantization of transformers, from loading a model to comparing and saving it.

The verbs are load, observe, smooth, quantize, calibrate, freeze, compare and save. Importing this
package imports neither torch nor transformers; a name does, when it is first used.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from wrapt import when_imported

from workbench.errors import WorkbenchError
from workbench.garbage import uncollected
from workbench.progress import Cancelled, reporting

# Functions that share their module's name come from that module: mypy would confuse the two.
if TYPE_CHECKING:
    from workbench.bench.training import train_bench
    from workbench.bench.training_report import TrainReport
    from workbench.bench.training_subjects import Material
    from workbench.compare import Comparison, Difference, TaskScores, compare, differences, evaluate
    from workbench.compress.distil import distil
    from workbench.compress.importance import importance
    from workbench.compress.prune import prune
    from workbench.export import Exported, export
    from workbench.graph.compile import compile  # noqa: A004
    from workbench.graph.compiled import Compiled
    from workbench.models.bundled import bundled
    from workbench.models.hf import QuantizedModelForCausalLM, WorkbenchConfig
    from workbench.models.load import load, load_into
    from workbench.models.loaded import LoadedModel
    from workbench.models.save import save
    from workbench.observe import Statistics, observe
    from workbench.quant import (
        AbsmaxOptimizer,
        Calibration,
        Coverage,
        HqqOptimizer,
        MaxOptimizer,
        MseOptimizer,
        QLayerNorm,
        QLinear,
        QModule,
        QTensor,
        QuantArgs,
        qfloat8,
        qfloat8_e4m3fn,
        qfloat8_e4m3fnuz,
        qfloat8_e5m2,
        qint2,
        qint3,
        qint4,
        qint6,
        qint8,
        register_qmodule,
    )
    from workbench.quant.coverage import coverage
    from workbench.quant.freeze import freeze
    from workbench.quant.kv_cache import QuantizedKVCache
    from workbench.quant.quantize import dequantize, quantization_map, quantize
    from workbench.quant.requantize import requantize
    from workbench.recipe import Plan, Recipe
    from workbench.report import Report, report
    from workbench.scoreboard import Scoreboard
    from workbench.scoreboard.judge import judge
    from workbench.session import Job, Session
    from workbench.smooth.search import AlphaSearch, search_alpha
    from workbench.smooth.smooth import Smoothing, smooth
    from workbench.train import finetune, learn_scales
    from workbench.train.arguments import WorkbenchTrainingArguments
    from workbench.train.trainer import WorkbenchTrainer
    from workbench.tune import Budget, widths
    from workbench.tune.allocate import allocate
    from workbench.tune.mixed import quantize_mixed
    from workbench.tune.refine import refine
    from workbench.tune.rotate import rotate
    from workbench.tune.sensitivity import sensitivity
    from workbench.tune.sweep import sweep
    from workbench.tune.tune import tune
    from workbench.tune.values import rotate_values
    from workbench.waterfall import Waterfall
    from workbench.waterfall.verb import compress

__version__ = "0.1.0"

_HOMES = {
    "workbench.bench.training": ("train_bench",),
    "workbench.bench.training_report": ("TrainReport",),
    "workbench.bench.training_subjects": ("Material",),
    "workbench.compare": (
        "Comparison",
        "Difference",
        "TaskScores",
        "compare",
        "differences",
        "evaluate",
    ),
    "workbench.report": ("Report", "report"),
    "workbench.scoreboard": ("Scoreboard", "judge"),
    "workbench.export": ("Exported", "export"),
    "workbench.graph.compile": ("compile",),
    "workbench.graph.compiled": ("Compiled",),
    "workbench.models": ("LoadedModel", "bundled", "load", "load_into", "save"),
    "workbench.models.hf": ("QuantizedModelForCausalLM", "WorkbenchConfig"),
    "workbench.observe": ("Statistics", "observe"),
    "workbench.quant": (
        "AbsmaxOptimizer",
        "Calibration",
        "Coverage",
        "HqqOptimizer",
        "MaxOptimizer",
        "MseOptimizer",
        "QLayerNorm",
        "QLinear",
        "QModule",
        "QTensor",
        "QuantArgs",
        "coverage",
        "dequantize",
        "freeze",
        "qfloat8",
        "qfloat8_e4m3fn",
        "qfloat8_e4m3fnuz",
        "qfloat8_e5m2",
        "qint2",
        "qint3",
        "qint4",
        "qint6",
        "qint8",
        "quantization_map",
        "quantize",
        "register_qmodule",
        "requantize",
    ),
    "workbench.quant.kv_cache": ("QuantizedKVCache",),
    "workbench.recipe": ("Plan", "Recipe"),
    "workbench.session": ("Job", "Session"),
    "workbench.smooth": ("AlphaSearch", "Smoothing", "search_alpha", "smooth"),
    "workbench.compress": ("distil", "importance", "prune"),
    "workbench.waterfall": ("Waterfall",),
    "workbench.waterfall.verb": ("compress",),
    "workbench.train": ("finetune", "learn_scales"),
    "workbench.train.arguments": ("WorkbenchTrainingArguments",),
    "workbench.train.trainer": ("WorkbenchTrainer",),
    "workbench.tune": (
        "Budget",
        "allocate",
        "quantize_mixed",
        "refine",
        "rotate",
        "rotate_values",
        "sensitivity",
        "sweep",
        "tune",
        "widths",
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "AbsmaxOptimizer",
    "AlphaSearch",
    "Budget",
    "Calibration",
    "Cancelled",
    "Comparison",
    "Compiled",
    "Coverage",
    "Difference",
    "Exported",
    "HqqOptimizer",
    "Job",
    "LoadedModel",
    "Material",
    "MaxOptimizer",
    "MseOptimizer",
    "Plan",
    "QLayerNorm",
    "QLinear",
    "QModule",
    "QTensor",
    "QuantArgs",
    "QuantizedKVCache",
    "QuantizedModelForCausalLM",
    "Recipe",
    "Report",
    "Scoreboard",
    "Session",
    "Smoothing",
    "Statistics",
    "TaskScores",
    "TrainReport",
    "Waterfall",
    "WorkbenchConfig",
    "WorkbenchError",
    "WorkbenchTrainer",
    "WorkbenchTrainingArguments",
    "allocate",
    "bundled",
    "compare",
    "compile",
    "compress",
    "coverage",
    "dequantize",
    "differences",
    "distil",
    "evaluate",
    "export",
    "finetune",
    "freeze",
    "importance",
    "judge",
    "learn_scales",
    "load",
    "load_into",
    "observe",
    "prune",
    "qfloat8",
    "qfloat8_e4m3fn",
    "qfloat8_e4m3fnuz",
    "qfloat8_e5m2",
    "qint2",
    "qint3",
    "qint4",
    "qint6",
    "qint8",
    "quantization_map",
    "quantize",
    "quantize_mixed",
    "refine",
    "register_qmodule",
    "report",
    "reporting",
    "requantize",
    "rotate",
    "rotate_values",
    "save",
    "search_alpha",
    "sensitivity",
    "smooth",
    "sweep",
    "train_bench",
    "tune",
    "widths",
]


class _Package(ModuleType):
    """Keeps `workbench.observe` the verb where the import system would put the subpackage."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _HOME_OF and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


@when_imported("transformers.modeling_utils")
def _register(_: ModuleType) -> None:
    """Make `from_pretrained` know our checkpoints, whichever of the two is imported first."""
    import_module("workbench.models.hf").register()


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with uncollected():
        value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
