"""What a chat in a kernel costs beside decoding alone; `--log-cli-level=INFO` tells the rates."""

import json
import logging
import statistics
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

pytestmark = pytest.mark.exhaustive

log = logging.getLogger(__name__)
CELL = Path(__file__).with_name("chat_rates.py")
MOST = 1.03


def test_a_large_llama_chats_at_the_rate_of_its_kernels() -> None:
    cell = nbformat.v4.new_code_cell(CELL.read_text())
    NotebookClient(nbformat.v4.new_notebook(cells=[cell]), timeout=1800).execute()
    said = "".join(out["text"] for out in cell.outputs if out.get("name") == "stdout")
    found = json.loads(said.splitlines()[-1])
    for name, bare in found["loop"].items():
        for way, times in found.items():
            ratio = statistics.median(a / b for a, b in zip(times[name], bare, strict=True))
            median = statistics.median(times[name])
            log.info("%s, %s: %.1f ms a token, %.3f of the bare loop", name, way, median, ratio)
    for name, alone in found["generate"].items():
        times = found["chat"][name]
        assert statistics.median(a / b for a, b in zip(times, alone, strict=True)) < MOST
