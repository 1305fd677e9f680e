"""Compiled graphs that are recorded: repeated with other inputs, they compute what they did."""

import copy
import threading

import pytest
import torch
from torch import nn
from torch.nn import functional
from transformers import BertConfig, BertModel

import workbench as wb
from workbench.graph import fuse
from workbench.graph.fuse import repeat
from workbench.graph.fuse.arena import Block, Memory, lay_out
from workbench.graph.fuse.repeat import Repeated
from workbench.ops import native

pytestmark = pytest.mark.skipif(
    native.status().problem is not None, reason="no native kernels here"
)
TOKEN = wb.QuantArgs(dtype="int8", granularity="token", dynamic=True)


def frozen(model: nn.Module) -> nn.Module:
    wb.quantize(model.eval(), weights=wb.qint8, activations=TOKEN)
    wb.freeze(model)
    return model


def compiled(model: nn.Module, **how):
    torch._dynamo.reset()
    return torch.compile(model, backend=fuse.backend, fullgraph=True, **how)


@pytest.fixture
def calls(monkeypatch):
    """What Python calls in the library, by name."""
    made: list[str] = []
    function = native.function
    monkeypatch.setattr(native, "function", lambda name: made.append(name) or function(name))
    return made


@pytest.fixture(scope="module")
def encoder() -> nn.Module:
    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=64, num_hidden_layers=3, num_attention_heads=2, intermediate_size=128,
        vocab_size=100,
    )  # fmt: skip
    return frozen(BertModel(config, add_pooling_layer=False))


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """Sizes are recorded when they come again."""
    monkeypatch.setattr(repeat, "OFTEN", 2)


def tokens(seed: int, length: int = 7) -> torch.Tensor:
    return torch.randint(100, (2, length), generator=torch.Generator().manual_seed(seed))


class Step(nn.Module):
    """A layer and what is made of its output."""

    def __init__(self, after) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.norm, self.two = nn.Linear(48, 48), nn.LayerNorm(48), nn.Linear(48, 48)
        self.after = after

    def forward(self, x):
        return self.after(self, x, self.one(x))


def again_and_again(model: nn.Module, *inputs: torch.Tensor):
    """The outputs of three calls: as it is, recorded, and repeated."""
    call = compiled(model)
    with torch.no_grad():
        return [call(*(x.clone() for x in inputs)) for _ in range(3)]


def test_repeating_is_one_call_and_changes_no_bit(encoder, calls):
    call = compiled(encoder)
    with torch.no_grad():
        first = [call(tokens(seed)).last_hidden_state for seed in range(4)]
        calls.clear()
        again = [call(tokens(seed)).last_hidden_state for seed in range(4)]
    assert calls == ["wb_run"] * 4
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    assert not torch.equal(first[0], first[1])


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_each_length_is_recorded_apart(encoder, mode):
    call = compiled(encoder, dynamic=True)
    with mode():
        rounds = [[call(tokens(0, n)).last_hidden_state for n in (5, 9, 6)] for _ in range(4)]
    for later in rounds[1:]:
        assert all(torch.equal(a, b) for a, b in zip(rounds[0], later, strict=True))


def test_a_size_is_recorded_once_it_comes_often(encoder, calls, monkeypatch):
    monkeypatch.setattr(repeat, "OFTEN", 3)
    call = compiled(encoder, dynamic=True)
    with torch.no_grad():
        call(tokens(0, 5))
        call(tokens(0, 6))  # from here on one graph is for all lengths
        for times, repeated in ((1, False), (2, False), (3, False), (4, True), (5, True)):
            calls.clear()
            call(tokens(times, 8))
            assert (set(calls) == {"wb_run"}) == repeated, times


def test_sizes_share_memory():
    memory = Memory()
    large = memory.of(5000)
    assert memory.of(300) is large
    larger = memory.of(5001)
    assert larger is memory.of(10_000)  # so that steps of growth are few


def test_a_mode_of_torch_may_change_between_calls():
    def write(model, x, y):
        del x
        total = model.two(y)
        total += 1
        return total

    call, x = compiled(frozen(Step(write))), torch.randn(3, 48)
    with torch.inference_mode():
        first = [call(x).clone() for _ in range(3)]
    with torch.no_grad():
        assert all(torch.equal(call(x), one) for one in first)


def test_weights_that_change_are_read_as_they_are(encoder):
    model, other = copy.deepcopy(encoder), copy.deepcopy(encoder)
    call = compiled(model)
    with torch.no_grad():
        for _ in range(3):
            before = call(tokens(0)).last_hidden_state
        mine, its = (m.encoder.layer[0].output.dense for m in (model, other))
        for layer in (mine, its):
            layer.bias += 1.0  # where it lies
        assert torch.equal(call(tokens(0)).last_hidden_state, compiled_once(other))
        for one in (model, other):
            one.embeddings.position_ids += 1
        assert torch.equal(call(tokens(0)).last_hidden_state, compiled_once(other))
        for one in (model, other):
            one.embeddings.position_ids = one.embeddings.position_ids - 1
        assert torch.equal(call(tokens(0)).last_hidden_state, compiled_once(other))
        for layer in (mine, its):
            layer.weight_scale = layer._buffers["weight_scale"] * 2  # elsewhere
        after = call(tokens(0)).last_hidden_state
    assert torch.equal(after, compiled_once(other))
    assert not torch.equal(after, before)


def compiled_once(model: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return torch.compile(model, backend=fuse.backend)(tokens(0)).last_hidden_state


def test_masks_are_read_where_they_are_given(encoder, monkeypatch):
    call, ids = compiled(encoder), tokens(0)
    with torch.no_grad():
        for kept in (range(7), range(4), range(7), range(2, 7), range(1)):
            mask = torch.zeros_like(ids)
            mask[0], mask[1, kept] = 1, 1
            with torch.profiler.profile() as seen:
                found = call(ids, mask).last_hidden_state
            with monkeypatch.context() as patched, torch.profiler.profile() as unrecorded:
                patched.setattr(Repeated, "_run", lambda self, given: self.graph.forward(*given))
                assert torch.equal(call(ids, mask).last_hidden_state, found), kept
    copies = {"aten::index", "aten::__and__"}
    assert not copies & {one.key for one in seen.key_averages()}
    assert copies <= {one.key for one in unrecorded.key_averages()}


def test_threads_at_once_do_not_meet(encoder):
    call = compiled(encoder)
    with torch.no_grad():
        expected = [call(tokens(seed)).last_hidden_state for seed in range(4)]
    wrong: list[int] = []

    def work(seed: int) -> None:
        with torch.no_grad():
            found = [call(tokens(seed)).last_hidden_state for _ in range(40)]
        wrong.extend(seed for one in found if not torch.equal(one, expected[seed]))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert wrong == []


def pick_and_write(model, x, y):
    picked = x[torch.arange(3)]
    x.mul_(2.0)
    return model.two(picked) + y


AFTER = {
    "a copy is taken before a write": pick_and_write,
    "a view goes out": lambda model, x, y: y.view(-1, 6)[1:],
    "two go out": lambda model, x, y: (model.two(y), y),
    "the input is read later": lambda model, x, y: model.two(model.norm(y + x)) * x,
    "torch computes between": lambda model, x, y: model.two(torch.tanh(model.two(y))) + y,
    "torch writes between": lambda model, x, y: model.two(y.add_(1.0)),
    "a copy in order is written to": lambda model, x, y: (
        model.two(y + x[torch.arange(3)].mul_(2.0)) * x
    ),
    "the input is written to": lambda model, x, y: model.two(y + x.mul_(2.0)),
    "rows are turned": lambda model, x, y: model.two(y.t().contiguous().t()),
    "wide floats": lambda model, x, y: model.two(y.double()),
    "nothing is left": lambda model, x, y: model.two(y[:0]),
    "attention of itself": lambda model, x, y: functional.scaled_dot_product_attention(
        *[y.view(1, 3, 3, 16)] * 3
    ),
}


@pytest.mark.parametrize("after", AFTER.values(), ids=AFTER)
def test_what_lies_between_native_ops(after):
    model, x = frozen(Step(after)), torch.randn(3, 48)
    with torch.no_grad():
        expected = model(x.clone())
    found = again_and_again(model, x)
    torch.testing.assert_close(found[0], expected, rtol=0, atol=2e-5)
    for later in found[1:]:
        torch.testing.assert_close(later, found[0], rtol=0, atol=0)


def test_blocks_that_are_in_use_at_once_lie_apart():
    g = torch.Generator().manual_seed(0)
    draw = torch.randint(1, 20, (60, 2), generator=g).tolist()
    blocks = [
        Block(size * 50, step, step + length // 3) for step, (size, length) in enumerate(draw)
    ]
    size = lay_out(blocks)
    for one in blocks:
        assert one.start % 64 == 0
        assert one.start + one.size <= size
        for other in blocks:
            apart = one.start + one.size <= other.start or other.start + other.size <= one.start
            assert apart or one is other or not one.meets(other)
    assert size < sum(one.size for one in blocks) / 5


def test_a_model_that_counts_is_not_repeated_wrongly():
    """An integer that each call writes to is no constant."""

    class Counts(Step):
        def __init__(self) -> None:
            super().__init__(None)
            self.register_buffer("count", torch.zeros(1, dtype=torch.long))

        def forward(self, x):
            self.count += 1
            return self.one(x) * self.count

    model, x = frozen(Counts()), torch.randn(3, 48)
    call = compiled(model)
    with torch.no_grad():
        first, *later = [call(x) for _ in range(5)]
    for times, one in enumerate(later, 2):
        torch.testing.assert_close(one, times * first)


def test_a_model_compiled_in_place_takes_the_short_way(encoder):
    model = copy.deepcopy(encoder)
    torch._dynamo.reset()
    wb.compile(model)
    mask = torch.ones_like(tokens(0))
    mask[:, 5:] = 0
    with torch.no_grad():
        expected = [encoder(tokens(seed), mask) for seed in range(3)]
        for _ in range(3):
            for seed, truth in enumerate(expected):
                found = model(tokens(seed), attention_mask=mask)
                assert type(found) is type(truth)
                close = torch.cosine_similarity(found[0], truth[0], dim=-1).min()
                assert close > 0.999
        [path] = model._compiled_call_impl.paths.values()
        assert path is not None
        before = model(tokens(0), attention_mask=mask).last_hidden_state
        model.encoder.layer[0].output.dense.weight_scale *= 2
        changed = model(tokens(0), attention_mask=mask).last_hidden_state
        model.encoder.layer[0].output.dense._buffers["weight_scale"] = (
            model.encoder.layer[0].output.dense._buffers["weight_scale"] / 2
        )
        assert torch.equal(model(tokens(0), attention_mask=mask).last_hidden_state, before)
    assert not torch.equal(changed, before)


def test_one_tensor_given_twice_is_not_two():
    class Adds(Step):
        def __init__(self) -> None:
            super().__init__(None)

        def forward(self, x, y):
            return self.one(x) + y

    model = frozen(Adds())
    torch._dynamo.reset()
    a, b = torch.randn(2, 3, 48, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model(a, a), model(a, b)
        wb.compile(model)
        for _ in range(3):
            for found, truth in zip((model(a, a), model(a, b)), expected, strict=True):
                torch.testing.assert_close(found, truth)


def test_models_that_keep_something_take_the_long_way():
    class Keeps(Step):
        def __init__(self) -> None:
            super().__init__(None)
            self.seen = None

        def forward(self, x):
            self.seen = x
            return self.one(x)

    model = frozen(Keeps())
    torch._dynamo.reset()
    wb.compile(model)
    with torch.no_grad():
        for x in torch.randn(5, 3, 48):
            model(x)
            assert model.seen is x
