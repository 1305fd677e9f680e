"""Batches stop together at each layer and go on with what it has become."""

import pytest
import torch
from torch import nn

from workbench.tune.stream import stream


class Two(nn.Module):
    """Two linears with a residual; the second only for batches that ask."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x, both=True):
        y = x + self.first(x)
        return y + self.second(y) if both else y


def test_later_layers_see_what_earlier_ones_have_become():
    torch.manual_seed(0)
    model, batches = Two(), [{"x": torch.randn(3, 4)} for _ in range(2)]
    seen = {}
    for stop in stream(model, batches, ["first", "second"]):
        seen[stop.name] = [call.rows for call in stop.calls]
        if stop.name == "first":
            model.first.weight = nn.Parameter(torch.zeros(4, 4))
    for batch, x, y in zip(batches, seen["first"], seen["second"], strict=True):
        assert torch.equal(x, batch["x"])
        assert torch.equal(y, batch["x"] + model.first.bias)
    assert "forward" not in vars(model.first)


def test_each_layer_runs_once_for_each_batch():
    model, runs = Two(), []
    model.first.register_forward_hook(lambda *_: runs.append("first"))
    for _ in stream(model, [{"x": torch.randn(1, 4)}] * 3, ["first", "second"]):
        pass
    assert runs == ["first"] * 3


def test_batches_that_skip_a_layer_wait_for_nobody():
    model = Two()
    batches = [{"x": torch.randn(1, 4), "both": i == 1} for i in range(3)]
    stops = {stop.name: len(stop.calls) for stop in stream(model, batches, ["first", "second"])}
    assert stops == {"first": 3, "second": 1}


def test_padding_is_left_out():
    class Masked(Two):
        def forward(self, x, attention_mask):
            return super().forward(x)

    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    batch = {"x": torch.randn(2, 3, 4), "attention_mask": mask}
    stop = next(iter(stream(Masked(), [batch], ["first"])))
    assert torch.equal(stop.calls[0].rows, batch["x"][mask.bool()])


def test_an_error_in_the_model_is_raised_here_and_leaves_no_door_behind():
    model = Two()
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        list(stream(model, [{"x": torch.randn(1, n)} for n in (4, 5)], ["first", "second"]))
    assert "forward" not in vars(model.first)
    assert model(torch.randn(1, 4)).shape == (1, 4)


def test_leaving_early_ends_every_thread():
    import threading

    model, before = Two(), threading.active_count()
    walk = stream(model, [{"x": torch.randn(1, 4)}] * 4, ["first", "second"])
    next(walk)
    assert threading.active_count() == before + 4
    walk.close()
    assert threading.active_count() == before
    assert "forward" not in vars(model.second)
