"""What a test asks of a running `workbench serve`."""

import json
import time
import urllib.request
from collections.abc import Callable

LIVE = "[data-view=outliers] svg[data-y0]"  # drawn once a model is loaded and observed


def health(address: str) -> dict:
    """What the server says of itself."""
    with urllib.request.urlopen(f"{address}/healthz") as answer:
        return json.load(answer)


def eventually(condition: Callable[[], bool], seconds: float = 120) -> bool:
    """Whether `condition` becomes true in time."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.2)
    return condition()
