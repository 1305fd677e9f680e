"""The command line as a user meets it: what it says, what it refuses, what it leaves."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import BertConfig, BertModel

import workbench
from workbench import ops
from workbench.cli import main


def run_command(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the real command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "workbench.cli", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


def test_help_teaches(capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for example in ("workbench run recipe.json", "workbench lab", "workbench doctor"):
        assert example in text


def test_version(capsys) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert workbench.__version__ in capsys.readouterr().out


def test_doctor_tells_what_runs_and_why(capsys) -> None:
    assert main(["doctor"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert torch.__version__ in text
    for name, _, _ in ops.report():
        assert name in text
    for name in workbench.bundled:
        assert name in text


def test_lab_without_its_extra_says_so(monkeypatch, capsys) -> None:
    monkeypatch.setattr("workbench.cli.extra.LAB", ("ipywidgets", "no_such_module"))
    for command in ("lab", "serve"):
        assert main([command]) == 2
        error = capsys.readouterr().err
        assert "no_such_module" in error
        assert "ipywidgets" not in error
        assert "quantization-workbench[lab]" in error


@pytest.fixture
def truncated(tmp_path) -> Path:
    """A model folder whose weights end half-way."""
    folder = tmp_path / "cut"
    config = BertConfig(
        vocab_size=50,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        architectures=["BertModel"],
    )
    BertModel(config).save_pretrained(folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:2000])
    return folder


RECIPES = {
    "an unknown field": ('{"alfa": 1}', ["alfa"]),
    "a newer version": ('{"version": 99}', ["99", "allowed: 1"]),
    "half a document": ('{"model": ', ["not JSON"]),
    "alpha too large": ('{"smoothing": {"alpha": 1.5}}', ["alpha", "1.5", "1"]),
    "an unknown model": ('{"model": "pilm"}', ["'pilm'", "pylm-outliers", "minilm"]),
}


def refused(capsys, folder: Path, *arguments: object) -> str:
    """Run in-process; return the one sentence it was refused with."""
    out = folder / "out"
    assert main(["run", "--out", str(out), *map(str, arguments)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert not out.exists()
    lines = captured.err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("workbench: ")
    return lines[0]


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_that_cannot_be_run_is_refused(name, tmp_path, capsys) -> None:
    text, expected = RECIPES[name]
    recipe = tmp_path / "recipe.json"
    recipe.write_text(text)
    sentence = refused(capsys, tmp_path, recipe)
    for part in expected:
        assert part in sentence


@pytest.mark.parametrize("alpha", ["-0.1", "1.01", "nan", "inf"])
def test_alpha_outside_its_range_is_refused(alpha, tmp_path, capsys) -> None:
    assert "alpha" in refused(capsys, tmp_path, f"--alpha={alpha}")


def test_a_truncated_model_is_refused(truncated, tmp_path, capsys) -> None:
    assert "cut cannot be loaded" in refused(capsys, tmp_path, "--model", truncated)


def test_a_missing_recipe_is_refused(tmp_path, capsys) -> None:
    assert "none.json" in refused(capsys, tmp_path, tmp_path / "none.json")


def test_targets_that_cannot_be_written_are_refused_before_any_work(tmp_path, capsys) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("mine")
    for arguments in (["--json", in_the_way / "x.json"], ["--json", tmp_path]):
        refused(capsys, tmp_path, "--model", "minilm", *arguments)
    assert main(["run", "--model", "minilm", "--out", str(in_the_way / "out")]) == 2
    assert "--out" in capsys.readouterr().err
    assert in_the_way.read_text() == "mine"


@pytest.mark.parametrize("option", [("--runs", 1), ("--prompts", 0)])
def test_too_few_runs_or_prompts_are_refused(option, tmp_path, capsys) -> None:
    assert "at least 2 runs and 1 prompt" in refused(capsys, tmp_path, *option)


def test_a_refusal_has_no_traceback(tmp_path) -> None:
    done = run_command("run", "--model", "pilm", cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def default_run(tmp_path_factory) -> tuple[subprocess.CompletedProcess[str], dict, Path]:
    """`workbench run --json out.json`, made shorter, once for all tests of what it shows."""
    folder = tmp_path_factory.mktemp("run")
    shorter = ("--prompts", 24, "--runs", 3)
    done = run_command("run", "--json", "out.json", *shorter, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done, json.loads((folder / "out.json").read_text()), folder


def by_kind(report: dict) -> dict[tuple[str, bool], dict]:
    return {(v["scheme"], v["smoothed"]): v for v in report["variants"]}


@pytest.mark.slow
def test_default_run_has_every_variant_and_figure(default_run) -> None:
    done, report, folder = default_run
    variants = by_kind(report)
    assert list(variants) == [
        ("fp32", False), ("bf16", False), ("o3", False), ("o3", True), ("o1", False), ("o1", True),
    ]  # fmt: skip
    for variant in variants.values():
        assert variant["name"] in done.stdout
        for figure in ("perplexity", "bytes", "prefill_ms", "decode_ms", "linear_ms"):
            assert variant[figure] > 0
        assert 0 <= variant["parse_rate"] <= 1
        assert 0 < variant["agreement"] <= 1
        assert variant["linear_ms"] < variant["prefill_ms"]
        assert variant["op"]
        checkpoint = folder / variant["checkpoint"]
        size = sum(path.stat().st_size for path in checkpoint.rglob("*") if path.is_file())
        assert variant["bytes"] == size
    assert {"machine", "recipe", "versions"} <= report.keys()
    assert report["recipe"]["model"] == "pylm-outliers"
    assert report["versions"]["torch"] == torch.__version__


@pytest.mark.slow
def test_default_run_shows_smoothing_mend_what_outliers_break(default_run) -> None:
    variants = by_kind(default_run[1])
    fp32 = variants["fp32", False]
    assert fp32["agreement"] == 1
    assert fp32["parse_rate"] >= 0.5
    assert variants["o3", False]["perplexity"] >= 3 * fp32["perplexity"]
    assert variants["o3", True]["perplexity"] <= 1.02 * fp32["perplexity"]
    assert variants["o3", True]["agreement"] > variants["o3", False]["agreement"]


@pytest.mark.slow
def test_default_run_is_faster_in_the_linears(default_run) -> None:
    report = default_run[1]
    if not {"avx512_vnni", "avx_vnni", "amx_int8"} & set(report["machine"]["instruction_sets"]):
        pytest.skip("this processor has no int8 dot products")
    variants = by_kind(report)
    for smoothed in (False, True):
        assert variants["fp32", False]["linear_ms"] >= 2.5 * variants["o3", smoothed]["linear_ms"]


@pytest.mark.slow
def test_default_run_leaves_checkpoints_that_reload(default_run) -> None:
    _, report, folder = default_run
    variant = by_kind(report)["o3", True]
    checkpoint = folder / variant["checkpoint"]
    tensors = load_file(checkpoint / "model.safetensors")
    assert tensors["model.layers.0.mlp.up_proj.weight"].dtype == torch.int8
    loaded = workbench.load(checkpoint)
    text = loaded.tokenizer("def area(a, b):\n", return_tensors="pt")
    with torch.inference_mode():
        assert loaded.model(**text).logits.isfinite().all()
    assert json.loads((checkpoint / "recipe.json").read_text())["model"] == "pylm-outliers"


@pytest.mark.exhaustive
def test_the_whole_default_run(tmp_path) -> None:
    done = run_command("run", "--json", "out.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    variants = by_kind(json.loads((tmp_path / "out.json").read_text()))
    assert variants["fp32", False]["parse_rate"] >= 0.5
    for variant in variants.values():
        assert (200 * variant["parse_rate"]).is_integer()
        assert {one["prefill_ms"]["runs"] for one in variant["speed"]} == {7}


@pytest.mark.slow
def test_an_encoder_is_judged_by_its_embeddings(tmp_path) -> None:
    recipe = tmp_path / "recipe.json"
    recipe.write_text('{"model": "minilm", "smoothing": {"alpha": 0.8}}')
    shorter = ("--runs", 2)
    done = run_command("run", recipe, "--json", "out.json", "--out", "made", *shorter, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    variants = by_kind(json.loads((tmp_path / "out.json").read_text()))
    assert all(variant["perplexity"] is None for variant in variants.values())
    assert variants["fp32", False]["cosine"] == 1
    assert variants["o3", True]["cosine"] >= 0.995 > variants["o3", False]["cosine"]
    assert variants["o1", True]["cosine"] >= 0.998
    assert 0.90 < variants["o3", True]["neighbour_agreement"] <= 1
    assert {path.name for path in (tmp_path / "made").iterdir()} == {
        "fp32", "bf16", "naive-o3", "smoothed-o3", "naive-o1", "smoothed-o1",
    }  # fmt: skip
