"""A session over a tiny random Llama, so that every widget test runs in a second."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))  # for made.py
pytest.importorskip("anywidget", reason="the widgets need the extra [lab]")

from made import made_statistics

from workbench.models import LoadedModel
from workbench.observe import Statistics
from workbench.session import Session
from workbench.session import session as module


class TinyModel(LoadedModel):
    """A random Llama over made-up tokens, in place of a model with a tokenizer and text."""

    def batches(self, split, *, samples=None, length=256, batch_size=8, seed=0, **_):
        generator = torch.Generator().manual_seed(seed + (split == "evaluation"))
        count = min(samples or 16, 16)
        ids = torch.randint(1, 97, (count, min(length, 24)), generator=generator)
        return [{"input_ids": part} for part in ids.split(2)]


@pytest.fixture
def session(tiny_llama, monkeypatch) -> Iterator[Session]:
    """A session whose `load` gives the tiny model, with two channels made loud."""
    with torch.no_grad():
        for block in tiny_llama.model.layers:
            block.input_layernorm.weight[[3, 17]] = 40.0

    def load(name, **_):
        return TinyModel(name, tiny_llama, None, "causal-lm", "Made to test.", None)

    monkeypatch.setattr(module, "load", load)
    made = Session("pylm")
    yield made
    made.close()


@pytest.fixture
def blocked(session, monkeypatch) -> SimpleNamespace:
    """Makes calibration wait in each batch until `go` is set; `entered` tells that it has begun."""
    import threading

    gate = SimpleNamespace(go=threading.Event(), entered=threading.Event())
    session.observe()
    forward = type(session.loaded.model).forward

    def slow(self, *arguments, **keywords):
        gate.entered.set()
        assert gate.go.wait(20)
        return forward(self, *arguments, **keywords)

    monkeypatch.setattr(type(session.loaded.model), "forward", slow)
    return gate


@pytest.fixture(scope="module")
def large() -> Statistics:
    """Made-up statistics of 32 blocks with four inputs of 4096 channels, six of them outliers."""
    return made_statistics(32, 4096)
