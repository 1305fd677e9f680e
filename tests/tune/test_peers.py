"""The same algorithms of public libraries on the same model and data: ours lose no more.

llm-compressor pins other versions of transformers, compressed-tensors and huggingface-hub than this
project, so it is in none of its extras and has to be in an environment of its own.
"""

import copy
from importlib.util import find_spec

import pytest
import torch

import workbench as wb
from workbench.metrics import kl_divergence
from workbench.tune import tune

INT4 = wb.QuantArgs(dtype="int4", granularity="group", group_size=128, symmetric=False)
SLACK = 1.05  # of the divergence: two good roundings differ by chance


def test_hqq_is_the_optimizer_that_the_peers_are_compared_with() -> None:
    """`tests/quant/test_peers_quanto.py` holds that one against quanto's."""
    torch.manual_seed(0)
    models = [torch.nn.Sequential(torch.nn.Linear(256, 64)) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    wb.quantize(models[0], INT4)
    tune(models[0], [], "hqq")
    wb.quantize(models[1], INT4, optimizer=wb.HqqOptimizer())
    for model in models:
        wb.freeze(model)
    assert torch.equal(*(model[0].weight.dequantize() for model in models))


needs_peer = pytest.mark.skipif(
    find_spec("llmcompressor") is None, reason="llmcompressor is not installed"
)


@pytest.fixture(scope="module")
def lm():
    return wb.load("pylm")


@pytest.fixture(scope="module")
def calibration(lm):
    return lm.batches("calibration", samples=16, batch_size=4)


@pytest.fixture(scope="module")
def theirs(lm, calibration):
    """What llm-compressor's recipe makes of the float model."""

    def make(*recipe):
        from llmcompressor import oneshot

        return oneshot(
            model=copy.deepcopy(lm.model),
            tokenizer=lm.tokenizer,
            recipe=list(recipe),
            dataset=torch.utils.data.DataLoader(calibration, batch_size=None),
            pipeline="sequential",
            sequential_targets=["LlamaDecoderLayer"],
        )

    return make


def weights_in_fours(**more):
    """Their scheme of int4 weights in affine groups, for the linears but the head."""
    args = {"num_bits": 4, "type": "int", "symmetric": False, "strategy": "group"}
    group = {"targets": ["Linear"], "weights": args | {"group_size": 128} | more}
    return {"config_groups": {"group_0": group}, "ignore": ["lm_head"]}


@torch.no_grad()
def divergence(lm, model) -> float:
    held_out = lm.batches("evaluation", samples=16)
    each = [kl_divergence(lm.model(**b).logits, model(**b).logits).flatten() for b in held_out]
    return torch.cat(each).mean().item()


def ours(lm, calibration, algorithm):
    model = lm.copy()
    wb.quantize(model, INT4, exclude="lm_head")
    tune(model, calibration, algorithm)
    wb.freeze(model)
    return model


@needs_peer
@pytest.mark.slow
def test_gptq_loses_no_more_than_llm_compressor_s(lm, calibration, theirs) -> None:
    from llmcompressor.modifiers.gptq import GPTQModifier

    peer = divergence(lm, theirs(GPTQModifier(actorder="static", **weights_in_fours())))
    found = divergence(lm, ours(lm, calibration, ("rtn", "gptq")))  # in the same ranges
    assert found <= SLACK * peer, (found, peer)


@needs_peer
@pytest.mark.slow
def test_awq_loses_no_more_than_llm_compressor_s(lm, calibration, theirs, monkeypatch) -> None:
    from llmcompressor.modifiers.quantization import QuantizationModifier
    from llmcompressor.modifiers.transform import AWQModifier
    from llmcompressor.pipelines.cache import IntermediatesCache

    if not torch.accelerator.is_available():  # it pins memory for one all the same, and fails
        monkeypatch.setattr(IntermediatesCache, "pin_memory", lambda *_: None)
    peer = divergence(lm, theirs(AWQModifier(), QuantizationModifier(**weights_in_fours())))
    found = divergence(lm, ours(lm, calibration, "awq"))
    assert found <= SLACK * peer, (found, peer)


@needs_peer
@pytest.mark.slow
@pytest.mark.parametrize("alpha", [0.5, 0.8])
def test_smoothing_loses_no_more_than_llm_compressor_s(lm, calibration, theirs, alpha) -> None:
    from llmcompressor.modifiers.quantization import QuantizationModifier
    from llmcompressor.modifiers.smoothquant import SmoothQuantModifier

    weights = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel"}
    inputs = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "tensor"}
    group = {"targets": ["Linear"], "weights": weights, "input_activations": inputs}
    peer = divergence(
        lm,
        theirs(
            SmoothQuantModifier(smoothing_strength=alpha),
            QuantizationModifier(config_groups={"group_0": group}, ignore=["lm_head"]),
        ),
    )
    model = lm.copy()
    wb.smooth(model, wb.observe(lm.model, calibration), alpha)
    wb.quantize(model, wb.qint8, wb.qint8, exclude="lm_head")
    with torch.no_grad(), wb.Calibration(model):
        for batch in calibration:
            model(**batch)
    wb.freeze(model)
    found = divergence(lm, model)
    assert found <= SLACK * peer, (found, peer)
