"""The points of the front of error against size and time, predicted and measured."""

from typing import TYPE_CHECKING, Any

from workbench.errors import WorkbenchError
from workbench.recipe import Recipe, layer_bits, summary, with_layer_bits
from workbench.widgets._arrays import finite

if TYPE_CHECKING:
    from workbench.session import Session
    from workbench.tune import Allocation


def baseline(session: "Session") -> dict[str, Any]:
    """The float model: its bytes, and its time where any run has measured it."""
    if session.loaded is None:
        return {}
    times = [run.float_prefill_ms for run in session.runs if run.float_prefill_ms is not None]
    return {"bytes": session.loaded.bytes, "ms": times[-1] if times else None}


def predicted_points(session: "Session", names: list[str]) -> list[dict[str, Any]]:
    """The best allocations that sensitivities promise: weights rounded and nothing else."""
    if session.loaded is None or session.damages is None:
        return []
    damages, quantization = session.damages, session.recipe.quantization
    now = {} if quantization.bits == "auto" else layer_bits(session.recipe, names)
    weights = sum(damages.parameters.values())
    made = []
    for number, allocation in enumerate(session.predicted):
        bits = {name: args.qtype.bits for name, args in allocation.weights.items()}
        chosen = [damages.layers[name][key] for name, key in allocation.choice.items()]
        spared = 4 * weights - sum(damage.bytes for damage in chosen)
        mean = sum(n * damages.parameters[name] for name, n in bits.items()) / weights
        made.append(
            {
                "key": f"predicted {number}",
                "kind": "predicted",
                "error": finite(allocation.damage),
                "bytes": session.loaded.bytes - spared,
                "ms": None,
                "label": f"allocated, {mean:.1f} bits in the mean",
                "current": all(now.get(name) == n for name, n in bits.items()),
            }
        )
    return made


def measured_points(session: "Session") -> list[dict[str, Any]]:
    """Every run of this model, today's and earlier ones."""
    return [
        {
            "key": run.key,
            "kind": "measured",
            "error": finite(run.comparison.divergence),
            "bytes": run.bytes,
            "ms": run.prefill_ms,
            "label": summary(run.recipe),
            "samples": run.samples,
            "seed": run.recipe.seed,
            "made": run.made.astimezone().strftime("%Y-%m-%d %H:%M"),
            "perplexity": finite(run.comparison.perplexity),
            "current": run.recipe == session.recipe,
        }
        for run in session.runs
        if run.bytes is not None
    ]


def recipe_of(session: "Session", key: str, names: list[str]) -> Recipe:
    """The recipe behind a point; raises WorkbenchError where there is no such point."""
    word, _, number = key.partition(" ")
    if word == "predicted" and number.isdigit() and int(number) < len(session.predicted):
        return _allocated(session, session.predicted[int(number)], names)
    run = session.history.get(key)
    if run is None:
        raise WorkbenchError(f"no point {key!r}; choose one that the chart shows.")
    return run.recipe


def _allocated(session: "Session", allocation: "Allocation", names: list[str]) -> Recipe:
    recipe = session.recipe.with_quantization(bits={}, budget=None)
    wanted = {name: args.qtype.bits for name, args in allocation.weights.items()}
    return with_layer_bits(recipe, names, {k: v for k, v in wanted.items() if k in names})
