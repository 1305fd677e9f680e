"""The report card: what one recipe makes of one model, on a page to read and to print."""

from typing import TYPE_CHECKING, Any, ClassVar

import traitlets as t

from workbench.compare import machine
from workbench.widgets._arrays import finite
from workbench.widgets._base import View
from workbench.widgets.comparison_view import _rows as figures

if TYPE_CHECKING:
    from workbench.session import Job

LOUDEST = 3  # channels named for each layer


class ReportCard(View):
    """Size, quality and speed of the recipe's model, and each layer; changes nothing."""

    module = "report_card"
    calls = ("make",)
    verbs: ClassVar = ("load", "observe", "compare", "time")

    title = t.Unicode("").tag(sync=True)
    """Name of the model."""
    facts = t.List(t.Dict()).tag(sync=True)
    """What was measured on what: dictionaries of `label` and `value`, both text."""
    rows = t.List(t.Dict()).tag(sync=True)
    """Figures: dictionaries of `key`, `label`, `float`, `quantized`; empty until made."""
    layers = t.List(t.Dict()).tag(sync=True)
    """Each layer: `name`, `bits`, `scheme`, `bytes`, `float_bytes`, `sqnr_db`, `outlier_ratio`,
    `channels` (the loudest, most of them first), `op`."""
    recipe = t.Unicode("").tag(sync=True)
    """The recipe as JSON, so that the card can be repeated."""

    def make(self) -> "Job":
        """Queue a comparison on the evaluation data, and timings where the session takes them."""
        job = self.submit("compare")
        return self.submit("time") if hasattr(self.session, "time") else job

    def refresh(self) -> None:
        """Show the newest comparison of this recipe, or nothing after a change made it void."""
        session = self.session
        made = session.comparison is not None and session.plan is not None
        self.title = session.recipe.model
        self.recipe = session.recipe.to_json()
        self.facts = _facts(session) if made else []
        self.layers = _layers(session) if made else []
        self.rows = figures(session) + _times(session) if made else []


def _facts(session: Any) -> list[dict[str, str]]:
    recipe, found, here = session.recipe, session.comparison, machine()
    judged = f"{found.tokens:,} tokens" if found.tokens else f"{found.sentences} sentences"
    alpha = recipe.smoothing.alpha if recipe.smoothing else "none"
    return [
        {"label": label, "value": str(value)}
        for label, value in (
            ("Parameters", f"{session.loaded.parameters_count:,}"),
            ("Scheme of activations", recipe.scheme),
            ("Smoothing, alpha", alpha),
            ("Judged on", f"{judged} of the evaluation data, seed {recipe.seed}"),
            ("Machine", f"{here['processor']}, {here['threads']} of {here['cores']} cores"),
            ("Recipe", recipe.digest()),
        )
    ]


def _times(session: Any) -> list[dict[str, Any]]:
    """The medians of the newest timing that belongs to this recipe."""
    done = [job.result for job in list(session.jobs) if job.verb == "time" and job.state == "done"]
    if not done or done[-1].recipe != session.recipe:
        return []
    return [
        {
            "key": "prefill_ms",
            "label": "Prefill (ms, median)",
            "float": done[-1].float_prefill_ms,
            "quantized": done[-1].prefill_ms,
        }
    ]


def _layers(session: Any) -> list[dict[str, Any]]:
    errors = {layer.name: layer.sqnr_db for layer in session.comparison.layers}
    inputs = {name: entry for entry in session.statistics for name in entry.linears}
    rows = []
    for layer in session.plan.layers:
        entry = inputs.get(layer.name)
        rows.append(
            {
                "name": layer.name,
                "bits": layer.bits,
                "scheme": layer.scheme,
                "bytes": layer.bytes,
                "float_bytes": layer.float_bytes,
                "sqnr_db": finite(errors.get(layer.name)),
                "outlier_ratio": finite(float(entry.outlier_ratio)) if entry else None,
                "channels": entry.absmax.topk(LOUDEST).indices.tolist() if entry else [],
                "op": layer.op,
            }
        )
    return rows
