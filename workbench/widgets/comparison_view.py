"""Float against quantized, or any two recipes: quality, times, sizes, errors, answers; save."""

import io
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import traitlets as t

from workbench.errors import WorkbenchError
from workbench.models.images import decoded
from workbench.session.pairing import CURRENT, FLOAT, build_side, known_pair, recipe_of
from workbench.widgets._answers import Answers, answered, pictured
from workbench.widgets._arrays import finite, same
from workbench.widgets._base import View
from workbench.widgets._host import save_root, served
from workbench.widgets._sides import choices, drawn
from workbench.widgets._uploads import received

if TYPE_CHECKING:
    from workbench.session import Job

PICTURE_LIMIT = 2_500_000  # bytes, of which a server of apps takes 4 MB with what travels around
SMALLER = "Make it smaller: the model shrinks it in any case."
SHOWN = 160  # pixels of the longer side of the picture as it is shown again

# key, label, value of the float model when it is fixed by definition
FIGURES = (
    ("perplexity", "Perplexity", None),
    ("loss", "Loss (nats a token)", None),
    ("agreement", "Top-1 agreement", 1.0),
    ("kl", "KL (nats)", 0.0),
    ("cosine_mean", "Cosine, mean", 1.0),
    ("cosine_min", "Cosine, least", 1.0),
    ("neighbour_agreement", "Nearest-neighbour agreement", 1.0),
)


class ComparisonView(View):
    """The newest comparison with the float model, any two sides beside each other, and saving."""

    module = "comparison_view"
    calls = ("compare", "save", "pair", "swap", "answer", "look")
    verbs: ClassVar = ("compare", "save", "pair", "answer")

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
    a = t.Unicode(FLOAT).tag(sync=True)
    """The first side: "float", "current" (the recipe in force), or the digest of a run's recipe.
    - Type: `str`, default: `"float"`
    """
    b = t.Unicode(CURRENT).tag(sync=True)
    """The second side, in the same words.
    - Type: `str`, default: `"current"`
    """
    sides = t.List(t.Dict()).tag(sync=True)
    """What a side may be: dictionaries of `key` and `label`."""
    measured = t.Dict().tag(sync=True)
    """What is known of `a` against `b` (`workbench.widgets._sides.drawn`); empty before."""
    kind = t.Unicode("").tag(sync=True)
    """Kind of the loaded model, which decides what a text is put to it for; empty before."""
    answers = t.Dict().tag(sync=True)
    """What `a` and `b` make of `text` (and `other`), or of the picture `text`; empty before, or
    when a side changes."""
    picture = t.Bytes(b"").tag(sync=True)
    """The picture that was shown to both, as a small PNG; empty before."""
    picture_limit = t.Int(PICTURE_LIMIT).tag(sync=True)
    """Bytes of the largest picture that the browser sends."""

    def __init__(self, session: Any, **keywords: Any) -> None:
        self._known: tuple[object, ...] | None = None
        self._sides: tuple[object, object] | None = None
        super().__init__(
            session, **{"may_save": not served() or save_root() is not None} | keywords
        )

    def compare(self) -> "Job":
        """Queue a comparison on the evaluation data; earlier stages are made up for."""
        return self.submit("compare")

    def save(self) -> "Job":
        """Queue saving to `folder`: checkpoint, recipe and plan, whole or not at all."""
        return self.submit("save", self._target())

    def pair(self) -> "Job":
        """Queue measuring `a` against `b`: quality, times, sizes and the errors of layers."""
        return self.submit("pair", self.a, self.b)

    def swap(self) -> None:
        """Exchange the sides."""
        self.a, self.b = self.b, self.a

    def answer(self, text: str, other: str = "") -> "Job":
        """Queue putting `text` to both sides; an encoder is asked how alike it is to `other`."""
        a, b = self.a, self.b
        self._problem = ""
        job: Job = self.session.queue("answer", lambda: self._answered(a, b, text, other))
        self.follow()
        return job

    def look(self, name: str, content: bytes | str, size: int = 0) -> "Job":
        """Queue showing a picture (PNG or JPEG) to both sides, where the models see.

        `content` is bytes, or base64 as a browser sends it: empty where the file is of a `size`
        that the browser did not send.
        """
        content = received(name, content, size, PICTURE_LIMIT, SMALLER)
        a, b = self.a, self.b
        self._problem = ""
        job: Job = self.session.queue("answer", lambda: self._looked(a, b, name, content))
        self.follow()
        return job

    def refresh(self) -> None:
        """Show the session's newest comparison, or nothing after a change made it void."""
        self._show_comparison()
        session = self.session
        self.kind = session.loaded.kind if session.loaded else ""
        known = (session.loaded, session.recipe, session.pairs, session.history.added)
        if not same(self._known, (*known, self.a, self.b)):
            self.sides = choices(session)
            self._show_pair()
            self._known = (*known, self.a, self.b)

    @t.observe("a", "b")
    def _choose(self, _: Any) -> None:
        if not self.following:
            self.follow()

    def _show_pair(self) -> None:
        session = self.session
        keys = [side["key"] for side in self.sides]
        if session.loaded:  # before that no run is known
            self.a = self.a if self.a in keys else FLOAT
            self.b = self.b if self.b in keys else CURRENT
        elif {self.a, self.b} - {*keys}:
            return
        chosen = recipe_of(session, self.a), recipe_of(session, self.b)
        if chosen != self._sides:
            self._sides, self.answers, self.picture = chosen, {}, b""
        found = known_pair(session, self.a, self.b)
        self.measured = drawn(found) if found else {}

    def _answered(self, a: str, b: str, text: str, other: str) -> Answers:
        ask = partial(answered, text=text, other=other)
        return self._asked(a, b, {"text": text, "other": other}, ask)

    def _looked(self, a: str, b: str, name: str, content: bytes) -> Answers:
        seen = decoded(content, repr(name))
        found = self._asked(a, b, {"text": name, "other": ""}, partial(pictured, picture=seen))
        if self.answers == found:
            small, written = seen.copy(), io.BytesIO()
            small.thumbnail((SHOWN, SHOWN))
            small.save(written, "PNG")
            self.picture = written.getvalue()
        return found

    def _asked(
        self, a: str, b: str, asked: Answers, ask: Callable[[Any, Any, Any], Answers]
    ) -> Answers:
        """Build both sides, `ask` them, and show what they say if they are still the sides."""
        session = self.session
        loaded = session.load()
        chosen = recipe_of(session, a), recipe_of(session, b)
        first, second = (build_side(session, recipe).model for recipe in chosen)
        found = asked | ask(loaded, first, second)
        if chosen == self._sides:
            self.answers = found
        return found

    def _show_comparison(self) -> None:
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
    rows = []
    for key, label, fixed in FIGURES:
        if getattr(comparison, key) is None:
            continue
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
