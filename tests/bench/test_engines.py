"""Engines compute the layer they are given, each in its scheme."""

from importlib.util import find_spec

import pytest
import torch
from torch import Tensor, nn

from workbench.bench.arithmetic import expected_sqnr_db, float_product
from workbench.bench.engines import Engine, engines
from workbench.bench.engines.numbers import grouped, pack, per_channel
from workbench.bench.engines.tensors import duplicate
from workbench.bench.layers import Shape, sample
from workbench.bench.schemes import Scheme, schemes
from workbench.metrics import sqnr_db

PAIRS = [
    pytest.param(engine, scheme, id=f"{engine.name}-{scheme.op}-{scheme.bits}")
    for engine in engines.values()
    for scheme in schemes(group_size=128)
    if engine.offers(scheme)
]


@pytest.fixture(scope="module")
def layer() -> tuple[nn.Linear, Tensor]:
    return sample(Shape(m=6, k=256, n=96))


@torch.no_grad()
@pytest.mark.parametrize(("engine", "scheme"), PAIRS)
def test_a_layer_has_the_quality_of_its_scheme(
    engine: Engine, scheme: Scheme, layer: tuple[nn.Linear, Tensor]
) -> None:
    if engine.obstacle():
        pytest.skip(str(engine.obstacle()))
    linear, x = layer
    kept = linear.weight.clone()
    taken = x.to(engine.dtype(scheme, torch.bfloat16))
    run = engine.layer(linear, scheme, taken).bind(taken, 1)
    found = sqnr_db(float_product(linear, taken), run.output(run.call()))
    if scheme.is_float:
        assert found > (100 if scheme.bits == 32 else 50)
    else:
        # Peers have conventions of their own: one zero point more, scales rounded to bfloat16.
        apart = 0.5 if engine.ours else 3.0
        least, most = expected_sqnr_db(linear, taken, scheme)
        assert least - apart < found < most + apart
    assert torch.equal(linear.weight, kept), "the float layer stays as it is"


@torch.no_grad()
@pytest.mark.parametrize("name", ["workbench", "quanto", "torchao"])
def test_two_runs_share_no_bytes_of_weights(name: str, layer: tuple[nn.Linear, Tensor]) -> None:
    engine = engines[name]
    if engine.obstacle():
        pytest.skip(str(engine.obstacle()))
    linear, x = layer
    module = engine.layer(linear, Scheme("w8", 8), x.bfloat16()).module
    twin = duplicate(module)
    places = [_places(one) for one in (module, twin)]
    assert places[0]
    assert not places[0] & places[1]
    assert torch.equal(module(x.bfloat16()), twin(x.bfloat16()))


def _places(module: nn.Module) -> set[int]:
    """Where the bytes of all tensors lie, inside subclasses too."""
    found: set[int] = set()
    waiting = [*module.parameters(), *module.buffers()]
    while waiting:
        tensor = waiting.pop().detach()
        if hasattr(tensor, "__tensor_flatten__"):
            names, _ = tensor.__tensor_flatten__()
            waiting += [getattr(tensor, name) for name in names]
        elif tensor.numel():
            found.add(tensor.data_ptr())
    return found


def test_numbers_for_peers_unpack_to_what_was_packed() -> None:
    weight = torch.randn(5, 64, generator=torch.Generator().manual_seed(0)).numpy()
    for bits in (2, 4):
        found = grouped(weight, bits, 32)
        each = 8 // bits
        bytes_ = torch.from_numpy(found.packed)
        values = torch.stack([(bytes_ >> (bits * i)) & (2**bits - 1) for i in range(each)], -1)
        assert torch.equal(values.flatten(-2), torch.from_numpy(found.values))
        steps = torch.from_numpy((found.values - found.zero_point.astype("float32")) * found.scale)
        error = (steps.reshape(5, 64) - torch.from_numpy(weight)).abs()
        assert (error <= torch.from_numpy(found.scale).expand(5, 2, 32).reshape(5, 64)).all()
    odd = pack(found.zero_point[:, 0], 2)
    assert odd.shape == (5, 1)
    values, scale = per_channel(weight)
    assert abs(values).max(1).tolist() == [127] * 5
    assert (abs(values * scale - weight) <= scale / 2 * 1.001).all()


@pytest.mark.skipif(not find_spec("llama_cpp"), reason="llama-cpp-python is not installed")
@torch.no_grad()
def test_llama_cpp_computes_the_same_model(small_llama) -> None:
    ids = torch.arange(40).unsqueeze(0)
    truth = small_llama(input_ids=ids).logits[0]
    made = engines["llama.cpp"].decoder(small_llama, Scheme("float", 16), ids)(1)
    assert sqnr_db(truth, made.logits()) > 50
    made.decode()
