"""lm-evaluation-harness on a model in memory, with progress, cancel and nothing left changed."""

import copy
import logging
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from workbench.compare.tasks.local import LOCAL, local_task
from workbench.compare.tasks.scores import TaskScores, digest
from workbench.errors import WorkbenchError
from workbench.progress import Cancelled, track

if TYPE_CHECKING:
    from lm_eval.models.huggingface import HFLM


def harness_scores(
    model: nn.Module,
    tokenizer: Any,
    tasks: Sequence[str],
    *,
    data: Path | None = None,
    limit: int | None = None,
    batch_size: int = 8,
    seed: int = 0,
) -> list[TaskScores]:
    """Score a causal language model on `tasks`, by name.

    A name of `LOCAL` is run over its file below the folder `data`; without one, or for another
    name, the harness fetches what its own registry says. `limit` documents are drawn by `seed`
    from local files; of others the harness takes the first.

    The harness never stores or reuses answers here: its cache knows no model.
    Raises WorkbenchError where the extra [eval] is missing, a task is unknown, a file is not as it
    must be, or the tokenizer knows tokens that the model does not.
    """
    _require()
    _check_tokenizer(model, tokenizer)
    asked = [
        local_task(name, data, limit, seed) if data is not None and name in LOCAL else name
        for name in tasks
    ]
    with _as_before(model):
        judged = _harness_model(model, tokenizer, batch_size)
        return [_run(judged, task, limit, seed) for task in asked]


def _run(judged: Any, task: str | dict[str, Any], limit: int | None, seed: int) -> TaskScores:
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    fetched = isinstance(task, str)
    judged.task = name = task if isinstance(task, str) else task["task"]
    judged.truncated = 0
    try:
        found: Any = simple_evaluate(
            model=judged,
            tasks=[task],
            task_manager=TaskManager(include_defaults=fetched),
            limit=limit if fetched else None,
            bootstrap_iters=0,  # we pair two runs instead
            random_seed=seed,
            numpy_random_seed=seed,
            torch_random_seed=seed,
            fewshot_random_seed=seed,
        )
    except (WorkbenchError, Cancelled):
        raise
    except Exception as error:
        if not fetched:
            raise
        raise WorkbenchError(
            f"lm-evaluation-harness cannot run {name!r}: {error}. Without a network, give a "
            f"folder of data; there are local forms of {', '.join(LOCAL)}."
        ) from error
    if len(found["samples"]) != 1:
        raise WorkbenchError(
            f"{name!r} is a group of tasks; name its members: {', '.join(found['samples'])}."
        )
    return _scores(name, found, judged.truncated, seed)


def _scores(name: str, found: Any, truncated: int, seed: int) -> TaskScores:
    samples = sorted(found["samples"][name], key=lambda sample: sample["doc_id"])
    metrics = [key for key in samples[0]["metrics"] if _is_number(samples[0][key])]
    metric = "acc" if "acc" in metrics else metrics[0]
    scores = [float(sample[metric]) for sample in samples]
    return TaskScores(
        task=name,
        metric=metric,
        higher_is_better=bool(found["higher_is_better"][name].get(metric, True)),
        binary=set(scores) <= {0.0, 1.0},
        scores=scores,
        documents=digest(sample["doc_hash"] for sample in samples),
        seed=seed,
        truncated=truncated,
        others={
            key.removesuffix(",none"): float(value)
            for key, value in found["results"][name].items()
            if "," in key and "stderr" not in key and _is_number(value)
        },
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | np.number | np.bool_)


def _require() -> None:
    try:
        import lm_eval  # noqa: F401
    except ImportError as error:
        raise WorkbenchError(
            "lm-evaluation-harness is not installed; "
            "run: pip install 'quantization-workbench[eval]'"
        ) from error


def _check_tokenizer(model: nn.Module, tokenizer: Any) -> None:
    known = model.get_input_embeddings().num_embeddings  # type: ignore[operator]
    highest = max(tokenizer.get_vocab().values(), default=-1)
    if highest >= known:
        raise WorkbenchError(
            f"the tokenizer makes tokens up to {highest}, but the model knows {known}: "
            "they do not belong together."
        )


def _quiet(iterable: Any = None, **_: Any) -> Any:
    """Stand in for the harness's own progress bars, which would draw over ours."""
    return iterable


@contextmanager
def _as_before(model: nn.Module) -> Iterator[None]:
    """Give random states, ties and log levels back as they were.

    The harness seeds every generator, and ties the model's weights anew, which would overwrite a
    quantized head.
    """
    import lm_eval.api.task

    logger = logging.getLogger("lm_eval")
    level, python, numpy = logger.level, random.getstate(), np.random.get_state()
    logger.setLevel(logging.ERROR)
    bar, lm_eval.api.task.tqdm = lm_eval.api.task.tqdm, _quiet
    model.tie_weights = lambda *_, **__: None  # type: ignore[assignment]
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        del model.tie_weights
        logger.setLevel(level)
        lm_eval.api.task.tqdm = bar
        random.setstate(python)
        np.random.set_state(numpy)


def _harness_model(model: nn.Module, tokenizer: Any, batch_size: int) -> Any:
    return _class()(
        pretrained=model,
        tokenizer=copy.deepcopy(tokenizer),  # the harness gives it a padding token
        backend="causal",
        batch_size=batch_size,
    )


@cache
def _class() -> "type[HFLM]":
    """The harness's model, made on first use: it takes seconds to import."""
    from lm_eval.models.huggingface import HFLM

    class TrackedModel(HFLM):  # type: ignore[misc]
        """Reports every sequence that runs, stops when asked to, and counts what was cut."""

        task = ""
        truncated = 0
        _rows: Iterator[int] = iter(())

        def loglikelihood(self, requests: Any, disable_tqdm: bool = True) -> Any:  # noqa: ARG002
            return super().loglikelihood(requests, disable_tqdm=True)

        def _loglikelihood_tokens(self, requests: Any, **arguments: Any) -> Any:
            longest = max((len(target) for _, _, target in requests), default=0)
            if longest > self.max_length:
                raise WorkbenchError(
                    f"{self.task}: an answer of {longest} tokens is longer than the model's "
                    f"context of {self.max_length}."
                )
            whole = [(*context, *target) for _, context, target in requests]
            self.truncated += sum(len(tokens) > self.max_length + 1 for tokens in whole)
            distinct = len({tokens[:-1] for tokens in whole})  # the harness runs each once
            self._rows = track(range(distinct), self.task)
            return super()._loglikelihood_tokens(requests, **arguments)

        def _model_call(self, inps: Any, **arguments: Any) -> Any:
            logits = super()._model_call(inps, **arguments)
            list(islice(self._rows, len(inps)))
            return logits

    return TrackedModel
