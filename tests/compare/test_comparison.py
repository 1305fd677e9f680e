"""Comparisons against values worked out from the two models' outputs directly."""

import copy
import math

import pytest
import torch
from torch.nn import functional as F
from transformers import BertConfig, BertModel

from workbench.compare import compare
from workbench.errors import WorkbenchError
from workbench.observe import observe
from workbench.smooth import smooth
from workbench.tune import rotate


def disturbed(model: torch.nn.Module, share: float) -> torch.nn.Module:
    """A copy whose weight matrices carry noise of `share` of their own deviation."""
    other = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in other.parameters():
            if weight.dim() == 2:
                weight += share * weight.std() * torch.randn(weight.shape, generator=generator)
    return other


def batches() -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(4)
    return [
        {"input_ids": torch.randint(1, 97, (3, 24), generator=generator)},
        {"input_ids": torch.randint(1, 97, (1, 10), generator=generator)},
    ]


def test_language_model_figures(tiny_llama) -> None:
    other = disturbed(tiny_llama, 1.0)
    with torch.inference_mode():
        p = torch.cat([tiny_llama(**b).logits[:, :-1].flatten(0, 1) for b in batches()]).double()
        q = torch.cat([other(**b).logits[:, :-1].flatten(0, 1) for b in batches()]).double()
    targets = torch.cat([b["input_ids"][:, 1:].flatten() for b in batches()])

    result = compare(tiny_llama, other, batches())

    assert result.tokens == len(targets) == 3 * 23 + 9
    assert result.loss_reference == pytest.approx(F.cross_entropy(p, targets).item(), rel=1e-5)
    assert result.loss == pytest.approx(F.cross_entropy(q, targets).item(), rel=1e-5)
    assert result.perplexity == pytest.approx(math.exp(result.loss))
    assert result.perplexity_reference == pytest.approx(math.exp(result.loss_reference))
    kl = F.kl_div(q.log_softmax(-1), p.log_softmax(-1), log_target=True, reduction="batchmean")
    assert result.kl == pytest.approx(kl.item(), rel=1e-4)
    assert result.divergence == result.kl
    agreement = (p.argmax(-1) == q.argmax(-1)).double().mean().item()
    assert 0 < agreement < 1
    assert result.agreement == pytest.approx(agreement)
    assert result.cosine_mean is None


def test_layer_errors(tiny_llama) -> None:
    other = disturbed(tiny_llama, 0.1)
    result = {layer.name: layer.sqnr_db for layer in compare(tiny_llama, other, batches()).layers}
    assert len(result) == 2 * 7 + 1  # q k v o gate up down, twice, and the head

    name = "model.layers.1.mlp.down_proj"
    kept: dict[int, list[torch.Tensor]] = {0: [], 1: []}
    for index, model in enumerate((tiny_llama, other)):
        hook = model.get_submodule(name).register_forward_hook(
            lambda _m, _i, output, index=index: kept[index].append(output.double().flatten())
        )
        with torch.inference_mode():
            for batch in batches():
                model(**batch)
        hook.remove()
    expected, found = torch.cat(kept[0]), torch.cat(kept[1])
    ratio = expected.square().sum() / (expected - found).square().sum()
    assert result[name] == pytest.approx(10 * math.log10(ratio), abs=1e-3)


def test_a_model_equals_itself(tiny_llama) -> None:
    result = compare(tiny_llama, copy.deepcopy(tiny_llama), batches())
    assert result.kl == pytest.approx(0, abs=1e-12)
    assert result.agreement == 1
    assert result.loss == result.loss_reference
    assert all(layer.sqnr_db == math.inf for layer in result.layers)


def test_no_hook_stays_behind(tiny_llama) -> None:
    other = disturbed(tiny_llama, 0.1)
    with pytest.raises(ValueError, match="input_ids"):  # from inside the forward
        compare(tiny_llama, other, [{"attention_mask": torch.ones(1, 4)}])
    for model in (tiny_llama, other):
        assert not any(module._forward_hooks for module in model.modules())


@pytest.fixture
def tiny_bert() -> BertModel:
    torch.manual_seed(0)
    return BertModel(
        BertConfig(
            vocab_size=97,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=1,
            num_attention_heads=4,
        ),
        add_pooling_layer=False,
    ).eval()


def test_encoder_figures_ignore_padding(tiny_bert) -> None:
    other = disturbed(tiny_bert, 0.5)
    generator = torch.Generator().manual_seed(5)
    lengths = [9, 4, 7, 5]
    rows = [torch.randint(1, 97, (n,), generator=generator) for n in lengths]

    def embed(model: torch.nn.Module, row: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return model(input_ids=row[None]).last_hidden_state.mean(1)[0].double()

    p = torch.stack([embed(tiny_bert, row) for row in rows])
    q = torch.stack([embed(other, row) for row in rows])
    cosines = F.cosine_similarity(p, q)
    nearest = [
        (F.normalize(e) @ F.normalize(e).T).fill_diagonal_(-2).argmax(-1).tolist() for e in (p, q)
    ]

    padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    mask = (padded > 0).long()
    batches = [
        {"input_ids": padded[:3], "attention_mask": mask[:3]},
        {"input_ids": padded[3:], "attention_mask": mask[3:]},
    ]
    result = compare(tiny_bert, other, batches)

    assert result.sentences == 4
    assert result.cosine_mean == pytest.approx(cosines.mean().item(), abs=1e-5)
    assert result.divergence == pytest.approx(1 - cosines.mean().item(), abs=1e-5)
    assert result.cosine_min == pytest.approx(cosines.min().item(), abs=1e-5)
    same = sum(a == b for a, b in zip(*nearest, strict=True)) / 4
    assert result.neighbour_agreement == pytest.approx(same)
    assert result.perplexity is None


def test_nothing_to_compare_on_is_refused(tiny_llama) -> None:
    with pytest.raises(WorkbenchError, match="no batches"):
        compare(tiny_llama, tiny_llama, [])


def test_the_reference_beside_itself(tiny_llama) -> None:
    short = compare(tiny_llama, disturbed(tiny_llama, 0.1), batches()).of_reference()
    long = compare(tiny_llama, copy.deepcopy(tiny_llama), batches())
    assert long.kl == pytest.approx(0, abs=1e-12)
    assert short == long.model_copy(update={"kl": 0.0})


def test_layers_whose_outputs_smoothing_scaled_are_compared_without_the_scale(tiny_llama) -> None:
    stats = observe(tiny_llama, batches())
    smoothed = copy.deepcopy(tiny_llama)
    smoothing = smooth(smoothed, stats, 0.5)
    folded = {linear for g in smoothing.groups if g.how == "fold" for linear in g.linears}
    assert any(name.endswith(("o_proj", "down_proj")) for name in folded)
    for layer in compare(tiny_llama, smoothed, batches()).layers:
        assert layer.sqnr_db > 80, layer.name


def test_layers_that_write_to_a_rotated_stream_are_left_out(tiny_llama) -> None:
    rotated = copy.deepcopy(tiny_llama)
    found = rotate(rotated, batches()[0])
    layers = compare(tiny_llama, rotated, batches()).layers
    assert not {layer.name for layer in layers} & set(found.writers)
    assert min(layer.sqnr_db for layer in layers) > 80
