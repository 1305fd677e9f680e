"""A recipe of a model small enough to take through every verb."""

import pytest

import workbench as wb


@pytest.fixture
def recipe(tiny_folder, tiny_words, tmp_path):
    import torch

    g = torch.Generator().manual_seed(0)
    text = " ".join(tiny_words[i] for i in torch.randint(2, 97, (4000,), generator=g).tolist())
    (tmp_path / "text.txt").write_text(text)
    calibration = {"samples": 6, "length": 32, "batch_size": 2}
    return (
        wb.Recipe()
        .with_model(str(tiny_folder))
        .with_calibration(text=str(tmp_path / "text.txt"), **calibration)
    )
