"""What the command line prints of a study."""

from pathlib import Path

import pytest

from workbench import console
from workbench.compare import Speed, Timing
from workbench.ops import native
from workbench.study import Study, Variant
from workbench.train import TrainingCurve


def variant(name: str, scheme: str, prefill: float, decode: float, **figures) -> Variant:
    def timing(median: float) -> Timing:
        return Timing(median=median, low=median - 0.5, high=median + 0.5, runs=7)

    speed = Speed(
        prefill_ms=timing(prefill),
        decode_ms=timing(decode),
        linear_ms=timing(prefill / 2),
        prompt_tokens=512,
        threads=1,
    )
    values = {
        "loss": 1.0, "perplexity": 2.718, "parse_rate": 0.625, "agreement": 0.5, "cosine": None,
        "cosine_min": None, "neighbour_agreement": None, "smoothed": False, "bytes": 2_500_000,
        "op": "some_op", "op_reason": "some reason", "checkpoint": f"out/{name}",
    }  # fmt: skip
    return Variant(
        name=name,
        scheme=scheme,
        prefill_ms=prefill,
        decode_ms=decode,
        linear_ms=prefill / 2,
        speed=[speed],
        **(values | figures),
    )


@pytest.fixture
def study() -> Study:
    return Study(
        model="pylm",
        kind="causal-lm",
        note="Made to teach.",
        variants=[
            variant("fp32", "fp32", 100.0, 6.0),
            variant("bf16", "bf16", 50.0, 8.0),
            variant("naive O3", "o3", 80.0, 7.0),
        ],
        machine={},
        recipe={},
        versions={},
        seconds=12.3,
    )


def test_what_got_slower_is_said(study) -> None:
    assert console.slower(study) == [
        "Slower than fp32: naive O3, decoding with 1 thread, 7.00 ms against 6.00.",
        "Slower than bf16: naive O3, prefill with 1 thread, 80.00 ms against 50.00.",
    ]


def test_how_training_went_is_said(study) -> None:
    losses = tuple(20.0 - step for step in range(20))
    curve = TrainingCurve(quantity="divergence", losses=losses, learning_rate=1e-4, seed=0)
    trained = study.variants[2].model_copy(update={"training": curve})
    assert console.trained(study.model_copy(update={"variants": [trained]})) == [
        "Trained: naive O3, 20 steps, divergence 19.5000 to 1.5000 on the calibration text."
    ]


def test_a_study_is_shown_whole(study, capsys) -> None:
    console.show_study(study)
    text = capsys.readouterr().out
    rows = [line.split() for line in text.splitlines() if "naive O3" in line]
    quality, latency = (" ".join(cell for cell in row if cell != "│") for row in rows[:2])
    assert quality == "naive O3 2.718 62.5% 50.0% 2.5"
    assert latency == (
        "naive O3 80.0 (79.5-80.5) 1.25 0.62 40.0 (39.5-40.5) 1.25 7.00 (6.50-7.50) 0.86"
    )
    for part in ("Made to teach.", "some_op", "some reason", "prefill of 512", "1 thread"):
        assert part in text


def test_an_encoder_is_shown_by_its_cosines(study, capsys) -> None:
    figures = {"perplexity": None, "agreement": None, "parse_rate": None, "decode_ms": None}
    figures |= {"cosine": 0.99876, "cosine_min": 0.9, "neighbour_agreement": 0.75}
    encoder = study.model_copy(
        update={
            "kind": "encoder",
            "variants": [v.model_copy(update=figures) for v in study.variants],
        }
    )
    console.show_study(encoder)
    text = capsys.readouterr().out
    for part in ("0.9988", "0.9000", "75.0%"):
        assert part in text
    assert "perplexity" not in text


def test_bars_take_what_track_reports() -> None:
    with console.Bars() as bars:
        for done in range(3):
            bars.update("reading", done, 2)
        bars.update("unknown length", 5, None)
        bars.check()
        assert list(bars.tasks) == ["unknown length"]


NATIVE = native.Native(
    Path("some/library.so"), None, "avx2", (("portable", None), ("avx2", None), ("amx", "no AMX"))
)


@pytest.mark.parametrize(
    ("asked", "why"),
    [(None, "the fastest that runs here"), ("avx2", "asked for by WORKBENCH_KERNELS")],
)
def test_the_doctor_names_the_level_in_use_and_what_bars_others(
    monkeypatch, capsys, asked, why
) -> None:
    monkeypatch.setattr(console, "_choices", dict)
    monkeypatch.setattr(native, "status", lambda: NATIVE)
    if asked:
        monkeypatch.setenv("WORKBENCH_KERNELS", asked)
    else:
        monkeypatch.delenv("WORKBENCH_KERNELS", raising=False)
    console.show_machine()
    rows = cells(capsys.readouterr().out)
    assert rows["library"] == str(NATIVE.path)
    assert rows["level in use"].startswith(f"avx2, {why}")
    assert (rows["level portable"], rows["level amx"]) == ("runs", "no AMX")
    assert rows["attention_native"] == rows["rows_native"] == "yes", "of compiled models"


def test_the_doctor_says_what_computes_typical_layers_and_why(monkeypatch, capsys) -> None:
    monkeypatch.setattr(native, "status", lambda: native.Native(None, "nothing built"))
    console.show_machine()
    rows = cells(capsys.readouterr().out)
    assert rows["library"] == "nothing built"
    assert rows["W8A8"].startswith("a8_linear_int_mm")
    assert "nothing built" in rows["W8A8"], "why the native one was passed over"
    assert rows["W float8"].startswith("dequantized_linear_blocked")
    assert rows["attention_native"] == "no"
    assert "dequantized_linear_blocked" in rows["W float8, freeze(slower='float')"]
    assert "float32 linear" in rows["W float8, freeze(slower='float')"]


def cells(text: str) -> dict[str, str]:
    """The second column of each row of the tables, by the first; rows may go over many lines."""
    found: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        if line.startswith("│"):
            first, second = (cell.strip() for cell in line.strip("│").split("│")[:2])
            name = first or name
            found[name] = f"{found[name]} {second}" if not first else second
    return found
