"""How large this machine's caches are, which decides what a working set measures."""

import re
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path("/sys/devices/system/cpu/cpu0/cache")
UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}


@dataclass(frozen=True)
class Caches:
    """Bytes of the second level of one core and of the last level; `source` tells from where."""

    l2: int
    last: int
    source: str


ASSUMED = Caches(l2=2**20, last=32 * 2**20, source="assumed: the system does not tell")


def caches(folder: Path = FOLDER) -> Caches:
    """Read the sizes from Linux; elsewhere assume 1 MiB and 32 MiB, and say so."""
    levels: dict[int, int] = {}
    for entry in sorted(folder.glob("index*")):
        if (entry / "type").read_text().strip() != "Instruction":
            levels[int((entry / "level").read_text())] = _bytes((entry / "size").read_text())
    if not levels:
        return ASSUMED
    last = levels[max(levels)]
    return Caches(l2=levels.get(2, last), last=last, source=str(folder))


def _bytes(text: str) -> int:
    found = re.fullmatch(r"(\d+)([KMG]?)", text.strip())
    if found is None:
        raise ValueError(f"{text!r} is no size of a cache")
    return int(found[1]) * UNITS[found[2]]
