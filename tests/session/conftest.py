"""A recipe of a model small enough to take through every verb, in the folder of the test."""

import pytest

import workbench as wb


@pytest.fixture
def recipe(tiny_llama, tmp_path):
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    # What is unknown is no padding, whose embedding is zero: pinned text is full of it.
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
