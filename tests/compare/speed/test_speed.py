"""Timings: their summary, what they cover, and that measuring leaves no trace."""

import itertools
import time
from pathlib import Path

import pytest
import torch

from workbench.compare.speed import Timing, measure, measure_all, measure_layers, whole
from workbench.errors import WorkbenchError


class FakeLoaded:
    """The part of a loaded model that measuring needs."""

    kind = "causal-lm"

    def __init__(self, model: torch.nn.Module) -> None:
        self.model = model

    def batches(self, split: str, *, samples: int, length: int, batch_size: int):
        assert (split, samples, batch_size) == ("evaluation", 1, 1)
        return [{"input_ids": torch.arange(length)[None] % 90 + 1}]


def test_timing_is_the_median_with_quartiles() -> None:
    timing = Timing.of([5.0, 1.0, 2.0, 4.0, 3.0])
    assert (timing.low, timing.median, timing.high, timing.runs) == (2.0, 3.0, 4.0, 5)


def sleeping(seconds: float) -> type[torch.nn.Linear]:
    """A linear layer that sleeps first."""

    class Slow(torch.nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            time.sleep(seconds)
            return super().forward(x)

    return Slow


def test_drift_is_what_the_machine_did_meanwhile() -> None:
    assert Timing.of([4.0, 5.0, 4.0, 5.0, 4.0]).drift == pytest.approx(0.2)
    assert Timing.of([3.0] * 7).drift == 0
    assert Timing.of([3.0, 5.0, 9.0]).drift is None


def test_linears_take_a_part_of_the_prefill(tiny_llama) -> None:
    """A slow linear shows in both figures; a slow head shows in the whole only."""

    tiny_llama.model.layers[0].mlp.up_proj.__class__ = sleeping(0.02)
    tiny_llama.lm_head.__class__ = sleeping(0.02)
    speed = measure(tiny_llama, FakeLoaded(tiny_llama), threads=1, runs=3)
    assert speed.threads == 1
    assert speed.prompt_tokens == 128 - 16
    assert 20 <= speed.linear_ms.median < 40
    assert speed.prefill_ms.median >= 40
    assert speed.decode_ms is not None
    assert speed.decode_ms.median >= 40


def test_decoding_feeds_one_token_with_the_cache(tiny_llama) -> None:
    seen: list[tuple[int, int]] = []
    forward = tiny_llama.forward

    def spy(*args, **kwargs):
        output = forward(*args, **kwargs)
        cache = output.past_key_values
        seen.append((kwargs["input_ids"].shape[1], cache.get_seq_length() if cache else 0))
        return output

    tiny_llama.forward = spy
    measure(tiny_llama, FakeLoaded(tiny_llama), runs=2)
    one_run = [(112, 112), *[(1, 112 + step) for step in range(1, 17)], (112, 0)]
    assert seen == one_run * (2 + 2) + one_run[:1]  # two to warm up, and one for the memory


def test_models_take_turns(tiny_llama) -> None:
    order: list[str] = []
    models = {}
    for name in ("a", "b"):
        wrapper = SimpleModel(tiny_llama, name, order)
        models[name] = wrapper
    result = measure_all(models, FakeLoaded(tiny_llama), threads=1, runs=2)
    assert set(result) == {"a", "b"}
    measured, of_memory = order[-6:-2], order[-2:]
    assert measured == ["a", "b", "a", "b"]
    assert of_memory == ["a", "b"]


class SimpleModel(torch.nn.Module):
    """Notes in `order` whenever it is given a prompt with a cache to fill."""

    def __init__(self, inner: torch.nn.Module, name: str, order: list[str]) -> None:
        super().__init__()
        self.inner, self.label, self.order = inner, name, order

    def get_output_embeddings(self) -> torch.nn.Module:
        return self.inner.lm_head

    def forward(self, **inputs):
        if inputs["input_ids"].shape[1] > 1 and inputs["use_cache"]:
            self.order.append(self.label)
        return self.inner(**inputs)


def test_what_a_prefill_holds_on_top_is_the_systems_account(tiny_llama) -> None:
    class Greedy(torch.nn.Module):
        def forward(self, **_: torch.Tensor) -> None:
            torch.ones(64 << 20, dtype=torch.uint8)

    found = measure(Greedy(), FakeLoaded(tiny_llama), threads=1, runs=2).peak_bytes
    assert found == pytest.approx(64 << 20, rel=0.02)  # Linux counts pages in batches


def test_energy_is_that_of_the_prefills_where_the_machine_shows_it(tiny_llama, monkeypatch) -> None:
    readings = itertools.count(step=1_500_000)
    monkeypatch.setattr(whole, "counters", lambda: {Path("package"): next(readings)})
    assert measure(tiny_llama, FakeLoaded(tiny_llama), runs=2).prefill_joules == 1.5
    monkeypatch.setattr(whole, "counters", lambda: None)
    assert measure(tiny_llama, FakeLoaded(tiny_llama), runs=2).prefill_joules is None


def test_each_layer_has_its_time_and_its_share_of_the_whole(tiny_llama) -> None:
    """A layer that sleeps takes most of it; the head is timed like any other."""

    tiny_llama.model.layers[1].mlp.down_proj.__class__ = sleeping(0.05)
    found = measure_layers(tiny_llama, FakeLoaded(tiny_llama), threads=1, runs=3)
    linears = [n for n, m in tiny_llama.named_modules() if isinstance(m, torch.nn.Linear)]
    assert set(found.layers) == set(linears)
    slow = "model.layers.1.mlp.down_proj"
    assert 50 < found.layers[slow] <= found.prefill_ms.high
    assert max(found.layers, key=found.layers.get) == slow
    assert found.share(slow) == found.layers[slow] / found.prefill_ms.median
    assert found.share("no such layer") is None
    assert found.rest == pytest.approx(found.prefill_ms.median - sum(found.layers.values()))


def test_nothing_is_left_behind(tiny_llama) -> None:
    before = torch.get_num_threads()
    measure(tiny_llama, FakeLoaded(tiny_llama), threads=1, runs=2)
    assert torch.get_num_threads() == before
    assert all("forward" not in module.__dict__ for module in tiny_llama.modules())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"runs": 1}, "runs is 1"), ({"threads": 0}, "threads is 0")],
)
def test_senseless_requests_are_refused(tiny_llama, arguments, message) -> None:
    with pytest.raises(WorkbenchError, match=message):
        measure(tiny_llama, FakeLoaded(tiny_llama), **arguments)
