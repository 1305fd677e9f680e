"""Float against quantized: quality, size and the error of each layer; save what is good."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import traitlets as t

from workbench.errors import WorkbenchError
from workbench.widgets._arrays import finite
from workbench.widgets._base import View
from workbench.widgets._host import save_root, served

if TYPE_CHECKING:
    from workbench.session import Job

# key, label, value of the float model when it is fixed by definition, unit
CAUSAL = (
    ("perplexity", "Perplexity", None),
    ("loss", "Loss (nats a token)", None),
    ("agreement", "Top-1 agreement", 1.0),
    ("kl", "KL (nats a token)", 0.0),
)
ENCODER = (
    ("cosine_mean", "Cosine, mean", 1.0),
    ("cosine_min", "Cosine, least", 1.0),
    ("neighbour_agreement", "Nearest-neighbour agreement", 1.0),
)


class ComparisonView(View):
    """The figures of the newest comparison, with the buttons that make one and save the model."""

    module = "comparison_view"
    calls = ("compare", "save")
    verbs: ClassVar = ("compare", "save")

    rows = t.List(t.Dict()).tag(sync=True)
    """Figures of merit: dictionaries of `key`, `label`, `float`, `quantized`; empty before."""
    layers = t.List(t.Dict()).tag(sync=True)
    """Error of each layer's output: dictionaries of `name`, `sqnr_db` (None if not finite)."""
    tokens = t.Int(None, allow_none=True).tag(sync=True)
    """Tokens that were evaluated.
    - Type: `int | None`
    """
    folder = t.Unicode("quantized-model").tag(sync=True)
    """Where `save` writes the checkpoint. A visitor of an app gives a plain name, not a path.
    - Type: `str`, default: `"quantized-model"`
    """
    may_save = t.Bool(True).tag(sync=True)
    """Whether saving is offered: always in a notebook, in an app if its operator gave a folder.
    - Type: `bool`
    """
    saved = t.Unicode("").tag(sync=True)
    """Folder of the newest checkpoint; empty before."""

    def __init__(self, session: Any, **keywords: Any) -> None:
        super().__init__(
            session, **{"may_save": not served() or save_root() is not None} | keywords
        )

    def compare(self) -> "Job":
        """Queue a comparison on the evaluation data; earlier stages are made up for."""
        return self.submit("compare")

    def save(self) -> "Job":
        """Queue saving to `folder`: checkpoint, recipe and plan, whole or not at all."""
        return self.submit("save", self._target())

    def refresh(self) -> None:
        """Show the session's newest comparison, or nothing after a change made it void."""
        session = self.session
        comparison = session.comparison
        self.rows = _rows(session) if comparison else []
        self.tokens = comparison.tokens if comparison else None
        self.layers = [
            {"name": layer.name, "sqnr_db": finite(layer.sqnr_db)}
            for layer in (comparison.layers if comparison else [])
        ]
        done = [job for job in list(session.jobs) if job.verb == "save" and job.state == "done"]
        if done:
            self.saved = Path(done[-1].result).name if served() else str(done[-1].result)

    def _target(self) -> Path:
        if not served():
            if not self.folder.strip():
                raise WorkbenchError("no folder named; type where the checkpoint shall go.")
            return Path(self.folder).expanduser()
        root = save_root()
        if root is None or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", self.folder):
            raise WorkbenchError(
                f"cannot save to {self.folder!r}; give a plain name of letters, digits, '.', '_', "
                "'-', and only where the operator allows saving."
            )
        return root / self.folder


def _rows(session: Any) -> list[dict[str, Any]]:
    comparison = session.comparison
    causal = comparison.perplexity is not None
    rows = []
    for key, label, fixed in CAUSAL if causal else ENCODER:
        reference = fixed if fixed is not None else getattr(comparison, f"{key}_reference")
        rows.append(
            {
                "key": key,
                "label": label,
                "float": finite(reference),
                "quantized": finite(getattr(comparison, key)),
            }
        )
    if session.plan and session.loaded:
        spared = sum(layer.float_bytes - layer.bytes for layer in session.plan.layers)
        whole = session.loaded.bytes
        rows.append(
            {
                "key": "bytes",
                "label": "Weights in memory",
                "float": whole,
                "quantized": whole - spared,
            }
        )
    return rows
