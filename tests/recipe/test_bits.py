"""Bits of single layers, said by patterns: what is meant is what the recipe then gives."""

from fnmatch import fnmatch

import pytest
from hypothesis import given
from hypothesis import strategies as st

import workbench as wb
from workbench.recipe import layer_bits, with_layer_bits

NAMES = [f"layers.{i}.{part}" for i in range(3) for part in ("attn.q", "attn.o", "mlp.up")]
NAMES.append("lm_head")
PATTERNS = [*NAMES, "*", "*.mlp.*", "layers.1.*", "*.q", "layers.?.attn.*", "layers.[02].*"]
edits = st.lists(
    st.tuples(st.sampled_from(PATTERNS), st.sampled_from([2, 3, 4, 6, 8, None])), max_size=6
)
includes = st.sampled_from([None, ("*.attn.*",), ("*",)])


@given(edits, includes)
def test_an_edit_gives_its_layers_what_it_says_and_leaves_the_others(made, include) -> None:
    recipe = wb.Recipe().with_quantization(include=include, exclude=("lm_head", "*.conv"))
    expected = layer_bits(recipe, NAMES)
    for pattern, bits in made:
        recipe = with_layer_bits(recipe, NAMES, {pattern: bits})
        expected |= {name: bits for name in NAMES if fnmatch(name, pattern)}
        assert layer_bits(recipe, NAMES) == expected
        assert "*.conv" in recipe.quantization.exclude
        # `quantize_mixed` refuses a pattern that has nothing to say.
        quantized = [name for name in NAMES if expected[name] is not None]
        for idle in recipe.quantization.bits:
            assert any(fnmatch(name, idle) for name in quantized)


def test_patterns_stay_patterns() -> None:
    recipe = with_layer_bits(wb.Recipe(), NAMES, {"*.mlp.*": 4, "layers.0.*": 2})
    assert recipe.quantization.bits == {"layers.0.*": 2, "*.mlp.*": 4}
    recipe = with_layer_bits(recipe, NAMES, {"*": 8})
    assert recipe.quantization.bits == {}
    assert recipe.quantization.exclude == ()
    assert with_layer_bits(recipe, NAMES, {"lm_head": None}) == wb.Recipe()


def test_a_pattern_without_layers_and_bits_to_be_found_are_refused() -> None:
    with pytest.raises(wb.WorkbenchError, match=r"'\*\.mpl' matches none of the 10 layers"):
        with_layer_bits(wb.Recipe(), NAMES, {"*.mpl": 4})
    budget = {"kind": "mean_bits", "limit": 4}
    automatic = wb.Recipe().with_quantization(bits="auto", budget=budget)
    with pytest.raises(wb.WorkbenchError, match='"auto": allocate them'):
        with_layer_bits(automatic, NAMES, {"*.mlp.*": 4})
    assert with_layer_bits(automatic, NAMES, {"*": 4}).quantization.bits == {"*": 4}
    with pytest.raises(wb.WorkbenchError, match="5 bits are no width"):
        with_layer_bits(wb.Recipe(), NAMES, {"*": 5})
