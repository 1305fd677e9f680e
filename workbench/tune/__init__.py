"""Algorithms that choose numbers: roundings, rotation, and bits by sensitivity."""

from workbench.tune.algorithm import Algorithm, algorithms, register_algorithm
from workbench.tune.allocate import Allocation, Budget, allocate, front
from workbench.tune.awq import Awq, Clip
from workbench.tune.bias import BiasCorrection
from workbench.tune.candidates import WIDTHS, widths
from workbench.tune.damage import Damage, Sensitivity
from workbench.tune.gptq import Gptq
from workbench.tune.kept import cached
from workbench.tune.mixed import quantize_mixed
from workbench.tune.ranges import Hqq, Mse, Rtn
from workbench.tune.refine import refine
from workbench.tune.rotate import Rotation, rotate
from workbench.tune.sensitivity import sensitivity
from workbench.tune.sweep import sweep
from workbench.tune.tune import TunedLayer, tune
from workbench.tune.values import RotatedValues, rotate_values

__all__ = [
    "WIDTHS",
    "Algorithm",
    "Allocation",
    "Awq",
    "BiasCorrection",
    "Budget",
    "Clip",
    "Damage",
    "Gptq",
    "Hqq",
    "Mse",
    "RotatedValues",
    "Rotation",
    "Rtn",
    "Sensitivity",
    "TunedLayer",
    "algorithms",
    "allocate",
    "cached",
    "front",
    "quantize_mixed",
    "refine",
    "register_algorithm",
    "rotate",
    "rotate_values",
    "sensitivity",
    "sweep",
    "tune",
    "widths",
]
