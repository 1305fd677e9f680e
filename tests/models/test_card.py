"""The model card of a checkpoint: what it knows, and nothing else."""

import copy

import pytest
import yaml

import workbench as wb
from workbench.models import save
from workbench.models.card import Origin, license_of


def parts(folder) -> tuple[dict, str]:
    _, front, text = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(front), text


@pytest.fixture
def frozen(tiny_llama):
    model = copy.deepcopy(tiny_llama)
    wb.quantize(model, weights=wb.qint8)
    wb.freeze(model)
    return model


def test_nothing_is_claimed_that_is_not_known(frozen, tmp_path) -> None:
    front, text = parts(save(frozen, tmp_path / "out"))
    assert front == {
        "library_name": "transformers",
        "tags": ["quantization-workbench", "quantized", "int8"],
    }
    assert "Not evaluated." in text
    assert "weights int8 by channel, activations float" in text


def test_what_is_known_is_said(frozen, tmp_path) -> None:
    origin = Origin(
        base="small", hub_id="org/small", license="mit", figures={"kl": 0.0125}, on="40 tokens"
    )
    front, text = parts(save(frozen, tmp_path / "out", origin=origin, note="<b>Mind</b>"))
    assert front["base_model"] == "org/small"
    assert front["base_model_relation"] == "quantized"
    assert front["license"] == "mit"
    assert "| kl | 0.0125 |" in text
    assert "on 40 tokens." in text
    assert "<b>" not in text.replace(r"\<b\>", "")


def test_a_float_model_is_not_called_quantized(tiny_llama, tmp_path) -> None:
    front, text = parts(save(tiny_llama, tmp_path / "out"))
    assert front["tags"] == ["quantization-workbench"]
    assert "not quantized" in text


def test_the_license_is_what_the_base_states(tmp_path) -> None:
    card = tmp_path / "README.md"
    assert license_of(None) is license_of(tmp_path) is None
    for text, expected in (
        ("---\nlicense: apache-2.0\n---\n# it", "apache-2.0"),
        ("# no front matter", None),
        ("---\nlicense: [a, b]\n---\n", None),
        ("---\n: {\n---\n", None),
    ):
        card.write_text(text)
        assert license_of(tmp_path) == expected


def test_a_session_tells_its_comparison_once_it_has_one(tmp_path) -> None:
    session = wb.Session("pylm")
    try:
        _, text = parts(session.save(tmp_path / "plain"))
        assert "Not evaluated." in text
        assert f'"model": "{session.recipe.model}"' in text
        found = session.compare()
        _, text = parts(session.save(tmp_path / "compared"))
        assert f"| perplexity | {found.perplexity:.6g} |" in text
        assert "pinned evaluation text, seed 0" in text
    finally:
        session.close()
