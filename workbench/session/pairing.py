"""Two sides measured against each other: the float model, the recipe in force, any earlier run."""

import math
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor, nn

from workbench import metrics
from workbench.compare import (
    Comparison,
    Difference,
    Speed,
    Timing,
    bytes_on_disk,
    compare,
    differences,
    measure_all,
    sequence_scores,
)
from workbench.errors import WorkbenchError
from workbench.models import LoadedModel, save
from workbench.progress import Cancelled
from workbench.recipe import Plan, Recipe
from workbench.session.build import evaluation_batches
from workbench.session.choosing import seen
from workbench.session.keys import result_key

if TYPE_CHECKING:
    from workbench.session.session import Session

FLOAT, CURRENT = "float", "current"
TIMINGS = 15  # of each side, in turns: enough for a picture of their spread
KEPT = 2  # sessions of earlier runs, each with a frozen model


class Side(BaseModel):
    """One side as measured: `recipe` is None for the float model, bytes are of all weights."""

    model_config = ConfigDict(frozen=True)
    recipe: Recipe | None
    comparison: Comparison
    bytes: int
    disk: int  # of the whole checkpoint, as `save` writes it
    speed: Speed


class Ratio(BaseModel):
    """B's time over A's: geometric mean over interleaved timings, with its 95 % interval."""

    model_config = ConfigDict(frozen=True)
    ratio: float
    low: float
    high: float

    @property
    def told_apart(self) -> bool:
        """Whether chance is unlikely to make the difference."""
        return not self.low <= 1 <= self.high


class Pair(BaseModel):
    """Two sides, and what is more than chance between them; `quality` is B against A.

    `quality` pairs the sides sequence by sequence on the held-out batches, `prefill` and `decode`
    timing by timing. `key` stands for all that it depends on (`workbench.session.keys`).
    """

    model_config = ConfigDict(frozen=True)
    key: str
    a: Side
    b: Side
    quality: Difference
    prefill: Ratio
    decode: Ratio | None


def recipes(session: "Session") -> list[Recipe]:
    """The recipes of all runs of the session's model, the newest first, each once."""
    newest = {run.recipe.digest(): run.recipe for run in session.runs}
    return [*newest.values()][::-1]


def recipe_of(session: "Session", side: str) -> Recipe | None:
    """The recipe behind "float" (None), "current", or the digest of an earlier run's recipe."""
    if side == FLOAT:
        return None
    known = {CURRENT: session.recipe} | {found.digest(): found for found in recipes(session)}
    if side not in known:
        raise WorkbenchError(
            f"there is no side {side!r}; allowed: {FLOAT}, {CURRENT}, or the recipe of a run of "
            f"this model ({len(known) - 1} known)."
        )
    return known[side].with_model(session.recipe.model)


def known_pair(session: "Session", a: str, b: str) -> Pair | None:
    """The newest pair of these two sides that was measured in this session."""
    wanted = recipe_of(session, a), recipe_of(session, b)
    found = [p for p in session.pairs.values() if (p.a.recipe, p.b.recipe) == wanted]
    return found[-1] if found else None


@dataclass(frozen=True)
class Built:
    """What stands for a side: a frozen model with its plan, or the float model without one."""

    recipe: Recipe | None
    model: nn.Module
    plan: Plan | None


def build_side(session: "Session", recipe: Recipe | None) -> Built:
    """The frozen model of `recipe`, sharing with the float one what tensors it can; or that."""
    if recipe is None:
        return Built(None, session.load().model, None)
    owner = _beside(session, recipe)
    model, plan = owner.freeze(), owner.plan
    if owner.recipe != recipe or plan is None:
        raise Cancelled("the recipe changed while this ran; run it again")
    return Built(recipe, model, plan)


def measure_pair(session: "Session", a: str, b: str) -> Pair:
    """Build both sides and measure quality, size and speed; what is known is not measured again.

    Raises WorkbenchError for an unknown side, or where both are the float model.
    """
    loaded, current = session.load(), session.recipe
    chosen = {"a": recipe_of(session, a), "b": recipe_of(session, b)}
    if not any(chosen.values()):
        raise WorkbenchError("both sides are the float original; choose a recipe for one of them.")
    batches = evaluation_batches(loaded, current)
    _, data = session._key(current, batches)
    digests = "\n".join(recipe.digest() if recipe else FLOAT for recipe in chosen.values())
    key = result_key(digests, session.model_digest, data)
    found = session.pairs.get(key) or _kept(session, key)
    if found is None:
        found = _measured(session, key, chosen, batches)
        session.history.add_pair(key, found)
    session.pairs = {**session.pairs, key: found}
    return found


def _kept(session: "Session", key: str) -> Pair | None:
    """What an earlier session measured."""
    document = session.history.pair(key)
    try:
        return None if document is None else Pair.model_validate(document)
    except ValidationError:  # of another version
        return None


def _measured(
    session: "Session",
    key: str,
    chosen: dict[str, Recipe | None],
    batches: list[dict[str, Tensor]],
) -> Pair:
    loaded = session.load()
    sides = {name: build_side(session, recipe) for name, recipe in chosen.items()}
    models = {name: side.model for name, side in sides.items()}
    scores = sequence_scores(models, loaded.model, batches)
    comparisons = {
        name: _compared(session, side, batches) for name, side in sides.items() if side.plan
    }
    known = next(iter(comparisons.values()))
    speeds = measure_all(models, loaded, runs=TIMINGS)
    measured = {
        name: Side(
            recipe=side.recipe,
            comparison=comparisons.get(name) or known.of_reference(),
            bytes=_bytes(loaded, side.plan),
            disk=_disk(loaded, side),
            speed=speeds[name],
        )
        for name, side in sides.items()
    }
    (quality,) = differences([scores["a"]], [scores["b"]])
    first, second = speeds["a"], speeds["b"]
    return Pair(
        key=key,
        **measured,
        quality=quality,
        prefill=_ratio(first.prefill_ms, second.prefill_ms),
        decode=_ratio(first.decode_ms, second.decode_ms)
        if first.decode_ms and second.decode_ms
        else None,
    )


def _beside(session: "Session", recipe: Recipe) -> "Session":
    """The session itself for its own recipe, else one beside it that starts from what it knows."""
    if recipe == session.recipe:
        return session
    key = recipe.digest()
    other = session.others.pop(key, None)
    if other is None:
        other = type(session)(recipe, history=session.history)
        other.loaded, other.model_digest = session.load(), session.model_digest
        if seen(recipe) == seen(session.recipe):
            other.statistics = session.observe()
    session.others = dict([*session.others.items(), (key, other)][-KEPT:])
    return other


def _compared(session: "Session", side: Built, batches: list[dict[str, Tensor]]) -> Comparison:
    assert side.recipe is not None
    assert side.plan is not None
    key, data = session._key(side.recipe, batches)
    run = session.history.get(key)
    if run is None:
        found = compare(session.load().model, side.model, batches)
        run = session._keep(key, data, side.recipe, side.plan, found)
    return run.comparison


def _bytes(loaded: LoadedModel, plan: Plan | None) -> int:
    """Bytes of all weights in memory."""
    layers = plan.layers if plan else ()
    return loaded.bytes - sum(layer.float_bytes - layer.bytes for layer in layers)


def _disk(loaded: LoadedModel, side: Built) -> int:
    """Save the side to a temporary folder as `Session.save` would, and count its bytes."""
    with TemporaryDirectory(prefix="workbench-size-") as folder:
        written = save(
            side.model,
            f"{folder}/model",
            tokenizer=loaded.reader,
            recipe=side.recipe.to_json() if side.recipe else None,
            plan=side.plan.to_json() if side.plan else None,
            note=loaded.note,
        )
        return bytes_on_disk(written)


def _ratio(first: Timing, second: Timing) -> Ratio:
    logs = [[math.log(value) for value in timing.samples] for timing in (first, second)]
    middle = sum(b - a for a, b in zip(*logs, strict=True)) / first.runs
    interval = metrics.bootstrap_difference(*logs)
    return Ratio(ratio=math.exp(middle), low=math.exp(interval.low), high=math.exp(interval.high))
