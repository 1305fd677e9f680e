"""Whether figures were made on the machine, and with the versions, that are here."""

from collections.abc import Mapping
from typing import Any

from workbench.compare import machine, versions


def told(of_machine: Mapping[str, Any], of_versions: Mapping[str, str]) -> list[str]:
    """One sentence for another machine and one for other versions; none where they are these."""
    found = []
    for what, theirs, ours in (
        ("on another machine", of_machine, machine()),
        ("with other versions", of_versions, versions()),
    ):
        odd = [key for key in {**theirs, **ours} if theirs.get(key) != ours.get(key)]
        if odd:
            listed = "; ".join(
                f"{key.replace('_', ' ')} {_said(theirs.get(key))}, here {_said(ours.get(key))}"
                for key in odd
            )
            found.append(f"Measured {what}: {listed}.")
    return found


def _said(value: object) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value)) or "none"
    return "unknown" if value is None else str(value)
