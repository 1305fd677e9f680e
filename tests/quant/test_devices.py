"""Where tensors live: nothing of a frozen layer stays behind on another device."""

import copy

import pytest
import torch
from torch import nn

import workbench as wb
from workbench.quant import QModule

ACCELERATORS = [
    name
    for name, there in (
        ("cuda", torch.cuda.is_available()),
        ("mps", torch.backends.mps.is_available()),
    )
    if there
]
TOKEN = wb.QuantArgs(granularity="token", dynamic=True)
SCHEMES = {
    "int8": ("int8", None),
    "int4": ("int4", None),
    "int3": ("int3", None),
    "float8": ("float8", None),
    "static": ("int8", "int8"),
    "token": ("int8", TOKEN),
}


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 48), nn.LayerNorm(48), nn.GELU(), nn.Linear(48, 32))


def devices(module: nn.Module) -> set[str]:
    held = [t for m in module.modules() if isinstance(m, QModule) for t in m._buffers.values()]
    return {t.device.type for t in [*held, *module.parameters()] if t is not None}


def test_a_model_that_moved_since_its_calibration_is_frozen_where_it_is():
    """The meta device stands for any other."""
    quantized, x = model(), torch.randn(4, 64)
    wb.quantize(quantized, "int8", "int8", outputs="int8")
    with torch.no_grad(), wb.Calibration(quantized):
        quantized(x)
    quantized.to("meta")
    wb.freeze(quantized)
    assert devices(quantized) == {"meta"}
    assert quantized(x.to("meta")).shape == (4, 32)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    "device", ACCELERATORS or [pytest.param("none", marks=pytest.mark.skip("no accelerator here"))]
)
def test_an_accelerator_computes_what_the_processor_does(device, dtype, scheme):
    """Frozen there or moved there; integers are the same, float sums differ in their order."""
    plain, x = model().to(dtype), torch.randn(4, 64, dtype=dtype)
    here, there = copy.deepcopy(plain), copy.deepcopy(plain).to(device)
    for one, place in ((here, "cpu"), (there, device)):
        wb.quantize(one, *SCHEMES[scheme])
        with torch.no_grad(), wb.Calibration(one):
            one(x.to(place))
        wb.freeze(one)
    assert devices(there) == {device}
    moved = copy.deepcopy(here).to(device)
    assert devices(moved) == {device}
    expected = here(x).double()
    for one in (there, moved):
        apart = (one(x.to(device)).cpu().double() - expected).norm() / expected.norm()
        # An input that is rounded may land a step apart where a last bit differs.
        flip = 0 if SCHEMES[scheme][1] is None else 0.01
        assert apart < 20 * torch.finfo(dtype).eps + flip
    back = copy.deepcopy(moved).to("cpu")
    assert torch.equal(back(x), here(x))
