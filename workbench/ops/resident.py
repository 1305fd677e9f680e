"""Bytes of memory that this process holds, held at most, and could still take."""

from pathlib import Path

import torch

STATUS = Path("/proc/self/status")
ROLLUP = Path("/proc/self/smaps_rollup")
SYSTEM = Path("/proc/meminfo")
CPU = torch.device("cpu")


def resident(device: torch.device = CPU) -> int | None:
    """What is held now; None where the system does not tell (off Linux)."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    return _kilobytes(STATUS, "VmRSS")


def proportional() -> int | None:
    """What is held now, with its part only of pages that several processes have (Linux)."""
    return _kilobytes(ROLLUP, "Pss")


def peak(device: torch.device = CPU) -> int | None:
    """What was held at most since `reset_peak`."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return _kilobytes(STATUS, "VmHWM")


def reset_peak(device: torch.device = CPU) -> None:
    """Begin to look for the peak anew."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        clear.write_text("5")


def available(device: torch.device = CPU) -> int | None:
    """What could be taken without harm to others; None where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return _kilobytes(SYSTEM, "MemAvailable")


def _kilobytes(table: Path, field: str) -> int | None:
    if not table.exists():
        return None
    lines = dict(line.split(":", 1) for line in table.read_text().splitlines() if ":" in line)
    return int(lines[field].split()[0]) * 1024
