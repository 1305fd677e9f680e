"""The command, from a checkpoint and from a recipe."""

import pytest

from workbench.cli import main

pytest.importorskip("gguf")


def test_a_bundled_model_to_gguf(tmp_path, capsys):
    assert main(["export", "pylm", "--to", "gguf", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "model.gguf").is_file()
    printed = capsys.readouterr().out
    assert "gguf, " in printed
    assert "Note: llama.cpp has no pre-tokenizer" in printed


def test_a_refusal_ends_with_two(tmp_path, capsys):
    assert main(["export", "minilm", "--to", "gguf", str(tmp_path / "out")]) == 2
    assert "this is a bert" in capsys.readouterr().err
    assert main(["export", "pylm", "--to", "tflite", str(tmp_path / "out")]) == 2
    assert "'tflite' is unknown; allowed: compressed-tensors, gguf" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_recipe_is_carried_out_first(tmp_path):
    import json

    recipe = tmp_path / "recipe.json"
    recipe.write_text(json.dumps({"model": "pylm", "calibration": {"samples": 4}}))
    out = tmp_path / "out"
    assert main(["export", str(recipe), "--to", "compressed-tensors", str(out)]) == 0
    said = json.loads((out / "config.json").read_text())["quantization_config"]
    assert said["quant_method"] == "compressed-tensors"
