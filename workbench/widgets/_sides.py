"""Two measured sides in the form that a browser draws: figures, words, errors of layers, times."""

from typing import TYPE_CHECKING, Any

from workbench.recipe import Recipe, summary
from workbench.session.pairing import CURRENT, FLOAT, Pair, Ratio, Side, recipes
from workbench.widgets._arrays import finite

if TYPE_CHECKING:
    from workbench.compare import Timing
    from workbench.session import Session

MOST = 40  # earlier recipes to choose from, the newest
FIGURES = {
    "perplexity": "Perplexity",
    "loss": "Loss (nats a token)",
    "kl": "KL to the float model (nats)",
    "agreement": "Top-1 agreement with the float model",
    "cosine_mean": "Cosine to the float model, mean",
    "cosine_min": "Cosine to the float model, least",
    "neighbour_agreement": "Nearest-neighbour agreement",
}


def choices(session: "Session") -> list[dict[str, str]]:
    """What each side may be: dictionaries of `key` and `label`."""
    return [
        {"key": FLOAT, "label": "float original"},
        {"key": CURRENT, "label": f"recipe in force: {summary(session.recipe)}"},
        *(
            {"key": found.digest(), "label": f"run {found.digest()[:4]}: {summary(found)}"}
            for found in recipes(session)[:MOST]
        ),
    ]


def drawn(pair: Pair) -> dict[str, Any]:
    """All that the view shows of a pair."""
    return {
        "a": side_name(pair.a.recipe),
        "b": side_name(pair.b.recipe),
        "rows": _rows(pair.a, pair.b),
        "quality": {
            "metric": pair.quality.metric,
            "difference": pair.quality.candidate - pair.quality.reference,
            "low": pair.quality.low,
            "high": pair.quality.high,
            "sequences": pair.quality.samples,
            "words": quality_words(pair),
        },
        "layers": _layers(pair.a, pair.b),
        "latency": _latencies(pair),
        "threads": pair.a.speed.threads,
    }


def side_name(recipe: Recipe | None) -> str:
    """A side in a few words."""
    return "float original" if recipe is None else summary(recipe)


def quality_words(pair: Pair) -> str:
    """Which side is better on the held-out sequences, or that they are not told apart."""
    found = pair.quality
    change = found.candidate - found.reference
    told = {
        "better": "B is better than A",
        "worse": "B is worse than A",
        "not told apart": "A and B are not told apart",
    }[found.verdict]
    return (
        f"{told}: {found.metric} changes by {change:+.3g} from A to B (95 % interval "
        f"{found.low:+.3g} to {found.high:+.3g}, {found.samples} sequences paired)."
    )


def speed_words(ratio: Ratio, timings: int) -> str:
    """Which side is faster, or that they are not told apart."""
    told = "" if ratio.told_apart else "A and B are not told apart: "
    return (
        f"{told}B takes {ratio.ratio:.3g} times as long as A (95 % interval {ratio.low:.3g} to "
        f"{ratio.high:.3g}, {timings} timings of each, in turns)."
    )


def _rows(a: Side, b: Side) -> list[dict[str, Any]]:
    rows = [
        {"key": key, "label": label, "a": finite(first), "b": finite(second)}
        for key, label in FIGURES.items()
        if (first := getattr(a.comparison, key)) is not None
        and (second := getattr(b.comparison, key)) is not None
    ]
    return [
        *rows,
        {"key": "bytes", "label": "Weights in memory", "a": a.bytes, "b": b.bytes},
        {"key": "disk", "label": "Checkpoint on disk, as saved", "a": a.disk, "b": b.disk},
    ]


def _layers(a: Side, b: Side) -> list[dict[str, Any]]:
    """SQNR of each layer that both have, in order; None where a side equals the float model."""
    second = {layer.name: layer.sqnr_db for layer in b.comparison.layers}
    return [
        {"name": layer.name, "a": finite(layer.sqnr_db), "b": finite(second[layer.name])}
        for layer in a.comparison.layers
        if layer.name in second
    ]


def _latencies(pair: Pair) -> list[dict[str, Any]]:
    a, b = pair.a.speed, pair.b.speed
    title = f"Prefill of {a.prompt_tokens} tokens" if a.prompt_tokens else "One picture"
    found = [_latency("prefill", title, a.prefill_ms, b.prefill_ms, pair.prefill)]
    if a.decode_ms and b.decode_ms and pair.decode:
        found.append(_latency("decode", "Decoding, a token", a.decode_ms, b.decode_ms, pair.decode))
    return found


def _latency(key: str, title: str, a: "Timing", b: "Timing", ratio: Ratio) -> dict[str, Any]:
    return {
        "key": key,
        "title": title,
        "a": _strip(a),
        "b": _strip(b),
        "words": speed_words(ratio, a.runs),
    }


def _strip(timing: "Timing") -> dict[str, Any]:
    """Timings in ms with quartiles; `noise` is half the interquartile range over the median."""
    return {
        "samples": [round(value, 4) for value in timing.samples],
        "low": timing.low,
        "median": timing.median,
        "high": timing.high,
        "noise": (timing.high - timing.low) / 2 / timing.median,
    }
