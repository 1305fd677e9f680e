"""Time variants request by request, in turns, and judge what they answer."""

import time
from collections.abc import Mapping, Sequence
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
    "one thread each and requests sorted by length"
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


def request(row: Mapping[str, Any], length: int | None, pad: int) -> dict[str, Tensor]:
    """One row as a batch of 1, padded to `length` tokens, or as it is with None."""
    ids = torch.tensor([row["input_ids"]])
    mask = torch.ones_like(ids)
    if length is not None:
        more = (0, length - ids.shape[1])
        ids = torch.nn.functional.pad(ids, more, value=pad)
        mask = torch.nn.functional.pad(mask, more)
    return {"input_ids": ids, "attention_mask": mask}


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
                model(**request(row, length if variant.padded else None, pad))
        for index, row in enumerate(track(rows, "timing requests in turns")):
            for turn in range(len(variants)):
                place = (index + turn) % len(variants)  # nobody always follows the same one
                if index not in given[place]:
                    continue
                batch = request(row, length if variants[place].padded else None, pad)
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
) -> Row:
    """The row of the same variant, run in several processes on requests sorted by length."""
    ordered = sorted(rows, key=lambda one: len(one["input_ids"]))
    found = throughput(
        variant.load,
        [request(one, None, pad) for one in ordered],
        instances=instances,
        threads=threads,
    )
    made = Instances(**{name: getattr(found, name) for name in Instances.model_fields})
    return row.model_copy(
        update={
            "name": f"{row.name}, {instances} x {threads}",
            "step": "several instances",
            "parent": row.name,
            "instances": made,
        }
    )
