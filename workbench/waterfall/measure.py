"""Time variants request by request, in turns, and judge what they answer."""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from workbench.compare import bytes_on_disk
from workbench.compare.speed import throughput
from workbench.errors import WorkbenchError
from workbench.ops.threads import torch_threads
from workbench.progress import track
from workbench.waterfall.document import Instances, Row
from workbench.waterfall.engines import Variant

Batch = Mapping[str, Tensor]
WARM_UP = 3
IN_TURNS = (
    "batch 1, threads: {threads}, all variants in turns on each request; several instances have "
    "one thread each and requests sorted by length, one at a time or in batches"
)
DIGITS = 4  # of a millisecond: no clock is truer, and files stay small


def sample_by_length(rows: Sequence[Mapping[str, Any]], count: int | None) -> list[int]:
    """Numbers of `count` rows spread evenly over all lengths; all of them with None."""
    if count is None or count >= len(rows):
        return list(range(len(rows)))
    if count < 1:
        raise WorkbenchError(f"a sample of {count} examples says nothing; give at least 1, or None")
    ordered = sorted(range(len(rows)), key=lambda i: len(rows[i]["input_ids"]))
    return sorted(ordered[(2 * k + 1) * len(rows) // (2 * count)] for k in range(count))


def request(rows: Sequence[Mapping[str, Any]], length: int | None, pad: int) -> dict[str, Tensor]:
    """Rows as one batch, padded to `length` tokens, or to the longest of them with None."""
    ids = [torch.tensor(row["input_ids"]) for row in rows]
    longest = length or max(map(len, ids))
    asked = torch.full((len(ids), longest), pad)
    mask = torch.zeros_like(asked)
    for place, one in enumerate(ids):
        asked[place, : len(one)] = one
        mask[place, : len(one)] = 1
    return {"input_ids": asked, "attention_mask": mask}


@torch.inference_mode()
def measure(
    variants: Sequence[Variant],
    rows: Sequence[Mapping[str, Any]],
    *,
    length: int,
    pad: int,
    threads: int,
    judged: bool,
    samples: Mapping[str, int] | None = None,
) -> list[Row]:
    """Run every variant on `rows` at batch 1, all on one example before any goes to the next.

    `samples` names variants that are too slow for all, and how many they are given, spread over the
    lengths. With `judged` the rows' labels judge the answers.
    """
    with torch_threads(threads):
        models = [variant.load().eval() for variant in variants]
        given = [set(sample_by_length(rows, (samples or {}).get(v.name))) for v in variants]
        times: list[dict[int, float]] = [{} for _ in variants]
        right: list[dict[int, bool]] = [{} for _ in variants]
        for variant, model in zip(variants, models, strict=True):
            for row in rows[:WARM_UP]:
                model(**request([row], length if variant.padded else None, pad))
        for index, row in enumerate(track(rows, "timing requests in turns")):
            for turn in range(len(variants)):
                place = (index + turn) % len(variants)  # nobody always follows the same one
                if index not in given[place]:
                    continue
                batch = request([row], length if variants[place].padded else None, pad)
                start = time.perf_counter()
                logits = models[place](**batch).logits
                times[place][index] = round(1e3 * (time.perf_counter() - start), DIGITS)
                if judged:
                    right[place][index] = bool(logits[0].argmax() == row["labels"])
    return [
        Row(
            name=variant.name,
            step=variant.step,
            engine=variant.engine,
            padded=variant.padded,
            parameters=variant.parameters,
            bytes=bytes_on_disk(variant.folder),
            milliseconds=times[place],
            right=right[place] if judged else None,
            parent=variant.parent,
        )
        for place, variant in enumerate(variants)
    ]


def with_instances(
    row: Row,
    variant: Variant,
    rows: Sequence[Mapping[str, Any]],
    *,
    pad: int,
    instances: int,
    threads: int,
    sizes: Sequence[int],
) -> Iterator[Row]:
    """The row of the same variant, run in several processes on requests sorted by length.

    They take one of `sizes` requests at a time, a row for each. What is right was judged one by
    one, and is not told of batches: engines may round with what else lies in one.
    """
    ordered = sorted(rows, key=lambda one: len(one["input_ids"]))
    parent = row.name
    for size in sizes:
        parts = [ordered[start : start + size] for start in range(0, len(ordered), size)]
        found = throughput(
            variant.load,
            [request(part, None, pad) for part in parts],
            instances=instances,
            threads=threads,
        )
        figures = {name: getattr(found, name) for name in Instances.model_fields if name != "batch"}
        name = f"{row.name}, {instances} x {threads}" + (f", {size} a batch" if size > 1 else "")
        yield row.model_copy(
            update={
                "name": name,
                "step": "several instances" if size == 1 else "sorted batches",
                "parent": parent,
                "right": row.right if size == 1 else None,
                "instances": Instances(batch=size, **figures),
            }
        )
        parent = name
