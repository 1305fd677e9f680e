"""The quantized key-value cache against the float one and against rounding written out."""

import pytest
import torch
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

import workbench as wb
from workbench.errors import WorkbenchError


@pytest.fixture(scope="module")
def pylm():
    return wb.load("pylm")


def states(tokens: int, seed: int, batch: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(batch, 3, tokens, 16, generator=g) for _ in range(2))


def config(**more) -> LlamaConfig:
    sizes = {"num_attention_heads": 3, "num_key_value_heads": 3, "hidden_size": 48}
    return LlamaConfig(num_hidden_layers=1, vocab_size=50, intermediate_size=32, **sizes, **more)


def rounded(x: torch.Tensor, dim: int, bits: int) -> torch.Tensor:
    """Min-max rounding along `dim`, 0 included, written out."""
    low, high = x.amin(dim, True).clamp_max(0), x.amax(dim, True).clamp_min(0)
    step = (high - low) / (2**bits - 1)
    zero = (-low / step).round()
    return ((x / step + zero).round().clamp(0, 2**bits - 1) - zero) * step


@pytest.mark.parametrize("bits", [2, 3, 4, 6, 8])
def test_old_blocks_are_rounded_once_and_the_tail_is_exact(bits) -> None:
    cache = wb.QuantizedKVCache(config(), f"int{bits}", block=32)
    keys, values = states(70, seed=1)
    cache.update(keys[:, :, :41], values[:, :, :41], 0)
    for t in range(41, 70):  # one by one: the first block must not be rounded again
        found = cache.update(keys[:, :, t : t + 1], values[:, :, t : t + 1], 0)
    assert cache.get_seq_length() == 70
    found = cache.update(keys[:, :, :0], values[:, :, :0], 0)
    for start in (0, 32):
        block = slice(start, start + 32)
        expected = rounded(keys[:, :, block], -2, bits)
        torch.testing.assert_close(found[0][:, :, block], expected, atol=1e-5, rtol=1e-5)
    expected = rounded(values[:, :, :64], -1, bits)
    torch.testing.assert_close(found[1][:, :, :64], expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(found[0][:, :, 64:], keys[:, :, 64:])
    assert torch.equal(found[1][:, :, 64:], values[:, :, 64:])


def test_memory_is_what_the_bits_say() -> None:
    keys, values = states(256, seed=2)
    for bits in (2, 4, 8):
        cache = wb.QuantizedKVCache(config(), f"int{bits}", block=64)
        cache.update(keys, values, 0)
        numbers = keys.numel() // 64 + values.numel() // 16  # groups, each a scale and a point
        assert cache.nbytes == 2 * keys.numel() * bits // 8 + numbers * 5


def test_generation_with_eight_bits_follows_the_float_cache(pylm) -> None:
    prompt = torch.stack([torch.as_tensor(p.ids).flatten() for p in pylm.prompts()[:8]])
    arguments = {"max_new_tokens": 40, "do_sample": False, "pad_token_id": 0}
    mask = {"attention_mask": torch.ones_like(prompt)}
    expected = pylm.model.generate(prompt, **mask, **arguments)
    agreed = {}
    for bits in (8, 2):
        cache = wb.QuantizedKVCache(pylm.model.config, f"int{bits}")
        found = pylm.model.generate(prompt, past_key_values=cache, **mask, **arguments)
        length = min(found.shape[1], expected.shape[1])
        agreed[bits] = (found[:, 128:length] == expected[:, 128:length]).float().mean().item()
    assert agreed[8] > 0.9
    assert agreed[8] > agreed[2]


def test_beam_search_reorders_what_is_rounded(pylm) -> None:
    prompt = torch.as_tensor(pylm.prompts()[0].ids).view(1, -1)
    arguments = {"max_new_tokens": 12, "num_beams": 3, "do_sample": False, "pad_token_id": 0}
    arguments["attention_mask"] = torch.ones_like(prompt)
    expected = pylm.model.generate(prompt, **arguments)
    cache = wb.QuantizedKVCache(pylm.model.config)
    assert torch.equal(pylm.model.generate(prompt, past_key_values=cache, **arguments), expected)


def test_cropping_and_choosing_sequences_keep_the_rest() -> None:
    cache = wb.QuantizedKVCache(config(), "int8")
    keys, values = states(80, seed=3)
    cache.update(keys, values, 0)
    cache.batch_select_indices(torch.tensor([1]))
    cache.crop(-30)
    assert cache.get_seq_length() == 50
    found = cache.update(keys[1:, :, :0], values[1:, :, :0], 0)
    assert found[0].shape == (1, 3, 50, 16)
    torch.testing.assert_close(found[0], keys[1:, :, :50], atol=0.05, rtol=0)
    cache.batch_repeat_interleave(2)
    assert cache.update(keys[:, :, :0], values[:, :, :0], 0)[0].shape[0] == 2
    cache.reset()
    assert cache.get_seq_length() == 0


def test_sliding_layers_stay_in_float() -> None:
    from transformers import MistralConfig

    sliding = MistralConfig(num_hidden_layers=2, sliding_window=8)
    cache = wb.QuantizedKVCache(sliding)
    assert [type(a) for a in cache.layers] == [type(b) for b in DynamicCache(config=sliding).layers]


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(WorkbenchError, match="allowed: int2, int3, int4, int6, int8"):
        wb.QuantizedKVCache(config(), "float8")
    with pytest.raises(WorkbenchError, match="multiples"):
        wb.QuantizedKVCache(config(), block=20)


def test_a_model_answers_alike_with_and_without_it() -> None:
    torch.manual_seed(0)
    model = LlamaForCausalLM(config()).eval()
    ids = torch.randint(0, 50, (1, 40))
    cache = wb.QuantizedKVCache(model.config)
    model(ids[:, :39], past_key_values=cache)
    found = model(ids[:, 39:], past_key_values=cache).logits
    torch.testing.assert_close(found[:, -1], model(ids).logits[:, -1], atol=0.02, rtol=0)
