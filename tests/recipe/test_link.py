"""Recipes in links: whole there and back, and nothing else gets through."""

import base64
import json
import re
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

import workbench as wb
from workbench.recipe import decode_recipe, diff, encode_recipe
from workbench.recipe.link import MOST_BYTES, MOST_CHARACTERS, read_recipe


def packed(document) -> str:
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    return base64.urlsafe_b64encode(zlib.compress(data)).decode().rstrip("=")


recipes = st.builds(
    lambda alpha, samples, bits, scheme: (
        wb.Recipe()
        .with_alpha(alpha)
        .with_calibration(samples=samples)
        .with_quantization(bits=bits)
        .with_scheme(scheme)
    ),
    st.none() | st.floats(0, 1),
    st.integers(1, 999),
    st.dictionaries(st.text(max_size=20), st.sampled_from([2, 3, 4, 6, 8]), max_size=5),
    st.sampled_from(["o1", "o2", "o3", "none"]),
)


@given(recipes)
def test_a_recipe_comes_back_from_its_link(recipe) -> None:
    text = encode_recipe(recipe)
    assert re.fullmatch(r"[A-Za-z0-9_-]*", text)  # nothing that an address would escape
    assert decode_recipe(text) == recipe
    assert decode_recipe(text).digest() == recipe.digest()


@given(st.text(max_size=200) | st.binary(max_size=200).map(packed))
def test_no_text_does_anything_but_be_refused(text) -> None:
    with pytest.raises(wb.WorkbenchError):
        decode_recipe(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no recipe"),
        ("%%%", "holds no recipe"),
        ("é" * 8, "holds no recipe"),
        ("A" * (MOST_CHARACTERS + 1), "are the most"),
        (packed(b" " * (MOST_BYTES + 1)), "too long"),  # a bomb: few characters, much text
        (packed(b" " * 1_000_000), "too long"),
        (packed({"a": 1})[:-6], "holds no recipe"),
        (packed(b"\xff\xfe"), "holds no recipe"),
        (packed(b"[" * 50_000), "nested too deeply|not JSON"),
        (packed(b"[]"), "not valid"),
        (packed({"colour": "red"}), "unknown field 'colour'"),
        (packed({"version": 99}), "version 99"),
        (packed({"seed": -1}), "seed is -1"),
    ],
)
def test_what_is_no_recipe_is_refused_in_words(text, words) -> None:
    with pytest.raises(wb.WorkbenchError, match=words):
        decode_recipe(text)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"model": "/etc"}, "no model '/etc' here; choose one of: minilm, pylm"),
        ({"model": "pylm", "calibration": {"text": "/etc/passwd"}}, "names data"),
    ],
)
def test_a_visitor_gets_no_path_and_no_other_model(document, words) -> None:
    with pytest.raises(wb.WorkbenchError, match=words):
        decode_recipe(packed(document), models=["pylm", "minilm"])
    with pytest.raises(wb.WorkbenchError, match=words):
        read_recipe(json.dumps(document), models=["pylm", "minilm"])


def test_a_file_of_this_machine_and_a_long_recipe_get_no_link() -> None:
    with pytest.raises(wb.WorkbenchError, match="calibrates on the file"):
        encode_recipe(wb.Recipe().with_calibration(text="notes.txt"))
    import random

    letters = random.Random(0)
    bits = {f"{letters.random()}": 4 for _ in range(1000)}
    with pytest.raises(wb.WorkbenchError, match="send the recipe as a file"):
        encode_recipe(wb.Recipe().with_quantization(bits=bits))


def test_diff_names_each_field_that_differs_and_no_other() -> None:
    before = wb.Recipe()
    after = before.with_alpha(0.7).with_quantization(bits={"*.mlp.*": 4})
    changes = {change.field: (change.before, change.after) for change in diff(before, after)}
    assert changes == {
        "smoothing.alpha": ("0.5", "0.7"),
        "quantization.bits": ("{}", ""),
        "quantization.bits.*.mlp.*": ("", "4"),
    }
    assert diff(after, after) == []
    assert [change.field for change in diff(before, before.with_alpha(None))][-1] == "smoothing"
