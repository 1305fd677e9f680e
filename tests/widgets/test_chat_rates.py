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
MOST = 1.03  # times `generate` with nobody listening: medians of all rounds, mean of both variants


def test_a_large_llama_chats_at_the_rate_of_its_kernels() -> None:
    cell = nbformat.v4.new_code_cell(CELL.read_text())
    NotebookClient(nbformat.v4.new_notebook(cells=[cell]), timeout=1800).execute()
    said = "".join(out["text"] for out in cell.outputs if out.get("name") == "stdout")
    found = json.loads(said.splitlines()[-1])
    rates = {way: {n: statistics.median(t) for n, t in of.items()} for way, of in found.items()}
    for name, bare in rates["loop"].items():
        for way, medians in rates.items():
            low, _, high = statistics.quantiles(found[way][name])
            text = "%s, %s: %.1f ms a token (quartiles %.1f to %.1f), %.3f of the bare loop"
            log.info(text, name, way, medians[name], low, high, medians[name] / bare)
    beside = [rates["chat"][name] / alone for name, alone in rates["generate"].items()]
    log.info("chat: %.3f of generate", statistics.geometric_mean(beside))
    assert statistics.geometric_mean(beside) < MOST
