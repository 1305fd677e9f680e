"""What a measurement was made on: the machine and the versions, as plain data for a report."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

# What the int8 and bf16 paths of today's kernels look for, as Linux spells them.
INSTRUCTION_SETS = (
    "avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16",
    "asimd", "asimddp", "i8mm", "bf16", "sve",
)  # fmt: skip
PACKAGES = ("quantization-workbench", "torch", "transformers", "safetensors", "pydantic")


def machine() -> dict[str, str | int | list[str]]:
    """Describe the processor: model, cores this process may use, threads, instruction sets."""
    name, flags = _processor()
    return {
        "processor": name,
        "architecture": platform.machine(),
        "system": platform.system(),
        "cores": len(usable_cores()),
        "threads": torch.get_num_threads(),
        "instruction_sets": [flag for flag in INSTRUCTION_SETS if flag in flags],
        "torch_capability": torch.backends.cpu.get_cpu_capability(),
    }


def versions() -> dict[str, str]:
    """Name the versions that decide what a figure means."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # run from a checkout that was never installed
            found[package] = "not installed"
    return found


def usable_cores() -> list[int]:
    """The numbers of the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _processor() -> tuple[str, set[str]]:
    """Read name and flags where Linux lists them; elsewhere what Python knows, and no flags."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine(), set()
    pairs = (line.partition(":") for line in text.splitlines())
    fields = {key.strip(): value.strip() for key, _, value in pairs}
    flags = fields.get("flags", fields.get("Features", "")).split()
    return fields.get("model name", platform.machine()), set(flags)
