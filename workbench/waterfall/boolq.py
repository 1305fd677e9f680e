"""FastFormers' measurement again: BERT-base against a small student on BoolQ's passages.

The models have random weights, so that only times mean anything; the passages are real, and their
lengths decide. FastFormers (arXiv:2010.13382, table 3) reports 233.9 times on 16 cores.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from workbench.compare import machine, versions
from workbench.compare.machine import usable_cores
from workbench.compare.tasks.documents import YesOrNo, read
from workbench.compress import Examples, Target, importance, prune
from workbench.models import LoadedModel, load, save
from workbench.recipe.compression import EngineName
from workbench.waterfall.document import Waterfall
from workbench.waterfall.engines import Variant
from workbench.waterfall.measure import IN_TURNS, measure, sample_by_length, with_instances
from workbench.waterfall.steps import int8

LENGTH = 512
TEACHER = {  # BERT-base
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
}
STUDENT = {  # TinyBERT's four layers, which FastFormers distils to
    "hidden_size": 312,
    "num_hidden_layers": 4,
    "num_attention_heads": 12,
    "intermediate_size": 1200,
}
PRUNING = Target(heads=8, units=600, even=True)  # a third of the heads, half of the units
SCORED = 8
SIZES = (1, 4)  # requests at a time
RANDOM = (
    "weights are random: no accuracy is claimed. BERT-base was timed on {slow} of the {examples} "
    "examples, the others on {rows}, spread evenly over the lengths"
)


def boolq(
    path: Path,
    folder: Path,
    *,
    engines: Sequence[EngineName] = ("workbench", "onnxruntime"),
    limit: int | None = None,
    slow: int = 60,
    threads: int | None = None,
    instances: int | None = None,
    price_per_hour: float = 1.0,
    seed: int = 0,
) -> Waterfall:
    """Time every step on the passages and questions of `path`, the models left in `folder`.

    The two variants of BERT-base run on `slow` of the examples, the others on `limit` (None: all),
    spread evenly over the lengths. Raises WorkbenchError for a damaged file.
    """
    documents = read(path, YesOrNo.model_validate_json)
    tokenizer = load("minilm").tokenizer  # BERT's own vocabulary
    pairs = Examples(
        tokenizer,
        [f"{one.question} {tokenizer.sep_token} {one.passage}" for one in documents],
        [int(one.label) for one in documents],
        length=LENGTH,
    )
    teacher = _random("BERT-base", TEACHER, tokenizer, seed)
    student = _random("4 x 312", STUDENT, tokenizer, seed)
    pruned = _random("4 x 312", STUDENT, tokenizer, seed)
    few = [
        {name: torch.tensor([row[name]]) for name in ("input_ids", "attention_mask", "labels")}
        for row in sorted(pairs.rows, key=lambda row: len(row["input_ids"]))[:SCORED]
    ]
    prune(pruned.model, importance(pruned.model, few), PRUNING, few[0])
    variants = [
        _saved(teacher, folder, "BERT-base, padded", "padded"),
        _saved(teacher, folder, "BERT-base, own lengths", "dynamic length", "BERT-base, padded"),
        _saved(student, folder, "4 x 312", "student", "BERT-base, own lengths"),
        _saved(pruned, folder, "4 x 312, pruned", "pruned", "4 x 312"),
    ]
    for engine in engines:
        made = folder / f"int8-{engine}"
        int8[engine](pruned, made)
        count, parent = pruned.parameters_count, variants[3].name
        variants.append(Variant(f"int8, {engine}", "quantized", engine, made, count, parent=parent))
    threads = threads or len(usable_cores())
    rows = [pairs.rows[i] for i in sample_by_length(pairs.rows, limit)]
    found = measure(
        variants,
        rows,
        length=LENGTH,
        pad=tokenizer.pad_token_id,
        threads=threads,
        judged=False,
        samples={variant.name: slow for variant in variants[:2]},
    )
    count = instances or len(usable_cores())
    for place in range(4, len(variants)):
        found += with_instances(
            found[place],
            variants[place],
            rows,
            pad=tokenizer.pad_token_id,
            instances=count,
            threads=1,
            sizes=SIZES,
        )
    return Waterfall(
        title="BoolQ's passages: BERT-base against a small student, random weights",
        rows=found,
        examples=len(pairs),
        length=LENGTH,
        price_per_hour=price_per_hour,
        notes=[
            IN_TURNS.format(threads=threads),
            RANDOM.format(slow=min(slow, len(rows)), rows=len(rows), examples=len(pairs)),
        ],
        machine=machine(),
        versions=versions(),
    )


def _random(name: str, shape: dict[str, int], tokenizer: Any, seed: int) -> LoadedModel:
    from transformers import BertConfig, BertForSequenceClassification

    values: dict[str, Any] = {"vocab_size": len(tokenizer), "num_labels": 2, **shape}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = BertConfig(**values)
        model = BertForSequenceClassification(config).eval()
    return LoadedModel(name, model, tokenizer, "classifier", "random weights", None)


def _saved(
    model: LoadedModel, folder: Path, name: str, step: str, parent: str | None = None
) -> Variant:
    """The model as a variant, in a folder; the first, without a parent, has padded inputs."""
    where = folder / model.name if step != "pruned" else folder / "pruned"
    if not where.is_dir():
        save(model.model, where, tokenizer=model.tokenizer, note=model.note)
    return Variant(name, step, "torch", where, model.parameters_count, parent is None, parent)
