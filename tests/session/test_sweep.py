"""Alpha x bits x algorithm, in this process and in others."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

import workbench as wb
from workbench.session.sweep import sweep_recipes, variants


@pytest.fixture
def recipe(tiny_llama, tmp_path):
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {f"w{i}": i for i in range(97)}
    inner = Tokenizer(models.WordLevel(words, unk_token="w1"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="w1", pad_token="w0")
    wb.save(tiny_llama, tmp_path / "tiny", tokenizer=tokenizer)
    g = torch.Generator().manual_seed(0)
    text = " ".join(f"w{i}" for i in torch.randint(0, 97, (4000,), generator=g).tolist())
    (tmp_path / "text.txt").write_text(text)
    calibration = {"samples": 6, "length": 32, "batch_size": 2}
    return (
        wb.Recipe()
        .with_model(str(tmp_path / "tiny"))
        .with_calibration(text=str(tmp_path / "text.txt"), **calibration)
    )


def test_every_combination_is_there(recipe):
    made = variants(recipe, alphas=[None, 0.5], bits=[4, 8], algorithms=[(), ("gptq",)])
    parts = [(r.smoothing, r.quantization) for r in made]
    found = {(s and s.alpha, q.weights.dtype, bool(q.algorithms)) for s, q in parts}
    assert len(made) == len(found) == 8
    assert variants(recipe) == [recipe]


def test_processes_measure_what_this_one_does(recipe):
    made = variants(recipe.with_scheme("none"), alphas=[None], bits=[3, 8], algorithms=[("gptq",)])
    here = sweep_recipes(made)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as executor:
        there = sweep_recipes(made, executor)
    assert [r for r, _ in here] == [r for r, _ in there] == made
    for (_, ours), (_, theirs) in zip(here, there, strict=True):
        assert theirs.kl == pytest.approx(ours.kl, rel=1e-4)
    assert here[0][1].kl > 10 * here[1][1].kl
