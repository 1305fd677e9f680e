"""What each accelerator changes is what it says, and it refuses where it could not keep that."""

import ctypes

import pytest
import torch
from torch import nn
from transformers import Trainer

from tests.train.helpers import (
    Sentences,
    build,
    losses,
    next_tokens,
    pad_to_longest,
    tiny_bert,
    tiny_causal,
)
from workbench import WorkbenchTrainer
from workbench.train.accelerators import accelerators
from workbench.train.accelerators.by_length import LengthSampler
from workbench.train.accelerators.packing import pack
from workbench.train.accelerators.trimmed import trim
from workbench.train.lengths import BATCHES_SORTED

WIDE = 32


def padded_wide(rows):
    return pad_to_longest(rows, WIDE)


def trained(tmp_path, *names: str, model=None, **keywords):
    trainer = build(WorkbenchTrainer, tmp_path / "-".join(names), model, accelerate=list(names),
                    **keywords)  # fmt: skip
    trainer.train()
    return trainer


def reason(trainer, name: str) -> str:
    [row] = [row for row in trainer.choices.rows if row.name == name]
    assert row.verdict == "does not apply"
    return row.reason


def test_packed_rows_have_the_loss_and_gradient_of_padded_ones(tmp_path) -> None:
    plain = build(Trainer, tmp_path, tiny_causal(), data_collator=next_tokens)
    plain.train()
    packed = trained(tmp_path, "packing", model=tiny_causal(), data_collator=next_tokens)
    assert packed.choices.kept == ("packing",)
    assert losses(packed) == pytest.approx(losses(plain), rel=1e-5)


def test_a_packed_batch_holds_every_token_once_and_no_label_of_a_first_token() -> None:
    batch = next_tokens(Sentences(5).rows)
    packed = pack(batch)
    mask = batch["attention_mask"].bool()
    assert packed["input_ids"].shape == (1, int(mask.sum()))
    assert torch.equal(packed["input_ids"][0], batch["input_ids"][mask])
    first = packed["position_ids"][0] == 0
    assert int(first.sum()) == 5
    assert (packed["labels"][0][first] == -100).all()
    assert torch.equal(packed["labels"][0][~first], packed["input_ids"][0][~first])


class Mixes(nn.Module):
    """A model whose rows see each other: packing must not be offered for it."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = tiny_causal()
        self.config, self.loss_type = self.inner.config, self.inner.loss_type

    def forward(self, input_ids, attention_mask=None, position_ids=None, labels=None, **rest):
        return self.inner(input_ids=input_ids, labels=labels)  # positions and masks are ignored


def test_packing_is_refused_where_the_loss_would_differ(tmp_path) -> None:
    trainer = trained(tmp_path, "packing", model=Mixes(), data_collator=next_tokens)
    assert "the loss would be" in reason(trainer, "packing")


def test_packing_is_refused_where_a_row_has_one_label(tmp_path) -> None:
    assert "next token" in reason(trained(tmp_path, "packing"), "packing")


def test_trimmed_batches_have_the_losses_of_wide_ones(tmp_path) -> None:
    plain = build(Trainer, tmp_path, data_collator=padded_wide)
    plain.train()
    trimmed = trained(tmp_path, "trim", data_collator=padded_wide)
    assert trimmed.choices.kept == ("trim",)
    assert losses(trimmed) == pytest.approx(losses(plain), rel=1e-5)
    assert trim(padded_wide(Sentences(4).rows))["input_ids"].shape[1] < WIDE
    assert "already" in reason(trained(tmp_path, "trim"), "trim")


def test_length_grouping_needs_batches_that_follow_the_length(tmp_path) -> None:
    fixed = trained(tmp_path, "by_length", data_collator=padded_wide)
    assert "one length" in reason(fixed, "by_length")
    both = trained(tmp_path, "trim", "by_length", data_collator=padded_wide)
    assert both.choices.kept == ("trim", "by_length")
    equal = Sentences(64, longest=3)
    assert "all rows" in reason(trained(tmp_path, "by_length", train_dataset=equal), "by_length")


def test_the_length_sampler_is_a_shuffle_of_neighbours_in_length() -> None:
    lengths = torch.randint(1, 100, (1003,), generator=torch.Generator().manual_seed(0)).tolist()
    epochs = [list(LengthSampler(lengths, 8, 0, lambda e=e: e)) for e in (0, 0, 1)]
    assert epochs[0] == epochs[1] != epochs[2]
    assert sorted(epochs[0]) == list(range(1003))
    assert max(lengths) in [lengths[i] for i in epochs[0][:8]]  # memory runs out at once or never
    spans = []
    for start in range(0, 1000, 8):
        step = [lengths[i] for i in epochs[0][start : start + 8]]
        spans.append(max(step) - min(step))
    assert sum(spans) / len(spans) < 100 / BATCHES_SORTED * 2
    assert len({lengths[i] for i in epochs[0][8:72]}) > 20  # neighbours of other lengths follow


def test_merged_batches_take_the_same_step(tmp_path) -> None:
    """A causal model divides by all tokens of a step, however it is split."""
    keywords = {"gradient_accumulation_steps": 4, "per_device_train_batch_size": 4,
                "data_collator": next_tokens, "max_steps": 4}  # fmt: skip
    plain = build(Trainer, tmp_path, tiny_causal(), **keywords)
    plain.train()
    merged = trained(tmp_path, "merge", model=tiny_causal(), **keywords)
    assert merged.choices.kept == ("merge",)
    assert losses(merged) == pytest.approx(losses(plain), rel=1e-4)
    assert merged.args.per_device_train_batch_size == 4
    assert merged.args.gradient_accumulation_steps == 4


def test_merging_is_refused_where_it_would_change_the_step(tmp_path) -> None:
    """transformers adds up the means of micro-batches of classifiers that take any keyword."""
    trainer = trained(tmp_path, "merge", gradient_accumulation_steps=2)
    assert "the loss would be" in reason(trainer, "merge")


@pytest.mark.skipif(
    accelerators["bf16"].obstacle.__doc__ is None
    or not (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()),
    reason="needs a processor with bfloat16",
)
def test_bf16_trains_near_float32_and_evaluates_in_float32(tmp_path) -> None:
    plain = build(Trainer, tmp_path)
    plain.train()
    half = trained(tmp_path, "bf16")
    assert losses(half) == pytest.approx(losses(plain), rel=0.05)
    assert losses(half) != losses(plain)
    plain.model.load_state_dict(half.model.state_dict())
    assert half.evaluate()["eval_loss"] == plain.evaluate()["eval_loss"]
    assert {p.dtype for p in half.model.parameters()} == {torch.float32}


@pytest.mark.slow
def test_a_compiled_model_trains_alike_and_is_left_as_it_was(tmp_path) -> None:
    """One layer and rows of one length: to compile more takes longer, and shows the same."""
    given = {"train_dataset": Sentences(longest=3)}
    plain = build(Trainer, tmp_path, tiny_bert(layers=1), **given)
    plain.train()
    compiled = trained(tmp_path, "compile", model=tiny_bert(layers=1), **given)
    assert compiled.choices.kept == ("compile",)
    assert compiled.choices.rows[0].first_s > 0
    assert losses(compiled) == pytest.approx(losses(plain), rel=1e-4)
    assert compiled.model._compiled_call_impl is None
    assert list(compiled.model.state_dict()) == list(plain.model.state_dict())


def test_a_model_that_cannot_be_compiled_trains_without(tmp_path, monkeypatch) -> None:
    def broken(*_, **__):
        def call(*_, **__):
            raise RuntimeError("no compiler was found\nand more")

        return call

    monkeypatch.setattr(torch, "compile", broken)
    trainer = trained(tmp_path, "compile", "heap")
    [row] = [row for row in trainer.choices.rows if row.name == "compile"]
    assert row.verdict == "failed"
    assert row.reason == "RuntimeError: no compiler was found; the run goes on without"
    assert trainer.state.global_step == 6
    assert trainer.choices.kept == ("heap",)


def test_attention_is_the_other_one_while_training_only(tmp_path) -> None:
    seen = set()

    class Watched(WorkbenchTrainer):
        def training_step(self, model, *rest, **keywords):
            seen.add(model.config._attn_implementation)
            return super().training_step(model, *rest, **keywords)

    before = (model := tiny_bert()).config._attn_implementation
    build(Watched, tmp_path, model, accelerate=["attention"]).train()
    assert before == "sdpa"
    assert seen == {"eager"}
    assert model.config._attn_implementation == before


def test_the_heap_goes_back_to_what_glibc_does(tmp_path, monkeypatch) -> None:
    calls = []

    class Library:
        def mallopt(self, option: int, value: int) -> int:
            calls.append((option, value))
            return 1

    monkeypatch.setattr(ctypes, "CDLL", lambda _: Library())
    trained(tmp_path, "heap")
    assert (-4, 0) in calls
    assert calls[-3:] == [(-4, 65536), (-3, 32 << 20), (-1, 64 << 20)]


def test_the_fused_optimizer_is_taken_for_the_plain_one(tmp_path) -> None:
    trainer = trained(tmp_path, "fused_optimizer", optim="adamw_torch")
    assert trainer.optimizer.param_groups[0]["fused"]
    assert trainer.args.optim.value == "adamw_torch"


@pytest.mark.parametrize("name", accelerators)
def test_each_says_what_it_brings_and_may_change(name) -> None:
    one = accelerators[name]
    assert one.name == name
    assert one.brings
    assert one.changes
