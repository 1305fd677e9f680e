"""The energy that the processor took, where Linux shows its counters (RAPL, under powercap)."""

from pathlib import Path

POWERCAP = Path("/sys/class/powercap")
MICRO = 1e-6

Counters = dict[Path, int]


def counters() -> Counters | None:
    """Microjoules of each processor package by now; None where the machine shows none of them."""
    found = {}
    for package in POWERCAP.glob("intel-rapl:*"):  # AMD's counters have this name too
        try:
            if (package / "name").read_text().startswith("package"):
                found[package] = int((package / "energy_uj").read_text())
        except OSError:  # only root may read it, mostly
            return None
    return found or None


def joules(before: Counters | None, after: Counters | None) -> float | None:
    """The energy between two readings of `counters`, a counter that began anew included."""
    if before is None or after is None:
        return None
    spent = 0
    for package, now in after.items():
        spent += now - before[package]
        if now < before[package]:
            spent += int((package / "max_energy_range_uj").read_text())
    return MICRO * spent
