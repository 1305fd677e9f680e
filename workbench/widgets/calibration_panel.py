"""Set the activation ranges: choose data and scheme, calibrate, freeze, see what changed."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast, get_args

import traitlets as t

from workbench.models.own_text import digest, read_text, refuse_held_out
from workbench.quant.args import OBSERVERS
from workbench.recipe import Scheme
from workbench.widgets._base import Refused, View, checked
from workbench.widgets._freezing import changes, left_in_float
from workbench.widgets._host import served
from workbench.widgets._uploads import LIMIT, keep

if TYPE_CHECKING:
    from workbench.session import Job

Source = Literal["bundled", "file", "upload", "dataset", "images"]
SOURCES = get_args(Source)
NUMBERS = ("samples", "length", "momentum")
OWNERS_ONLY = {
    "text": "a path of this machine",
    "dataset": "a data set by name",
    "images": "a folder of this machine",
}


class CalibrationPanel(View):
    """Data, samples, observer and scheme, with progress, cancel, freeze and what it changed."""

    module = "calibration_panel"
    calls = ("calibrate", "freeze", "upload")
    verbs: ClassVar = ("calibrate", "freeze")

    source = t.Enum(SOURCES, "bundled").tag(sync=True)
    """Where the calibration data comes from; the recipe changes once the data itself is named.
    - Type: `str`, default: the recipe's. A visitor of an app has `"bundled"` and `"upload"`.
    """
    sources = t.List(t.Unicode()).tag(sync=True)
    """The sources on offer."""
    text = t.Unicode("").tag(sync=True)
    """Path of a UTF-8 text file on the machine of the kernel; not taken from a visitor.
    - Type: `str`, default: the recipe's, `""` for none
    """
    dataset = t.Unicode("").tag(sync=True)
    """Data set on the hub or in a local folder; not taken from a visitor.
    - Type: `str`, default: the recipe's, `""` for none
    """
    subset = t.Unicode("").tag(sync=True)
    """Which part of the data set, for those that have several; `""` for the only one."""
    column = t.Unicode("text").tag(sync=True)
    """Which column of the data set holds the text."""
    images = t.Unicode("").tag(sync=True)
    """Folder of pictures on the machine of the kernel, for a model that looks at them; not taken
    from a visitor.
    - Type: `str`, default: the recipe's, `""` for none
    """
    samples = t.Int(32).tag(sync=True)
    """Calibration sequences, or pictures.
    - Type: `int` of at least 1, default: the recipe's
    """
    length = t.Int(256).tag(sync=True)
    """Tokens in a sequence.
    - Type: `int` of at least 2, default: the recipe's
    """
    observer = t.Enum(OBSERVERS, "max").tag(sync=True)
    """How ranges are gathered over batches.
    - Type: one of `workbench.quant.args.OBSERVERS`, default: the recipe's
    """
    momentum = t.Float(0.9).tag(sync=True)
    """How much the "momentum" observer weighs the past.
    - Type: `float` of 0 to below 1, default: the recipe's
    """
    scheme = t.Enum(("o1", "o2", "o3", "none"), "o3").tag(sync=True)
    """`"o3"`: one calibrated range a tensor; `"o1"`, `"o2"`: a range for every token or
    tensor, found while running; `"none"`: weights only, activations stay in float.
    - Type: `str`, default: the recipe's
    """
    upload_limit = t.Int(LIMIT).tag(sync=True)
    """Bytes of the largest file that the browser sends."""
    stage = t.Unicode("empty").tag(sync=True)
    """How far the session is: empty, loaded, observed, calibrated, frozen, compared."""
    changes = t.List(t.Dict()).tag(sync=True)
    """What freezing changed: dictionaries of `key`, `label`, `before`, `after`; empty before."""
    left = t.List(t.Dict()).tag(sync=True)
    """Parameters that stayed in float: dictionaries of `name`, `reason`; empty before freezing."""

    _told: dict[str, str] | None = None  # which text the recipe named when `source` last followed

    def __init__(self, session: Any, **keywords: Any) -> None:
        offered = ["bundled", "upload"] if served() else list(SOURCES)
        super().__init__(session, **{"sources": offered} | keywords)
        self.observe(self._edit, [*NUMBERS, "observer"])
        self.observe(self._choose, "scheme")
        self.observe(self._use, ["source", "text", "dataset", "subset", "column", "images"])

    @t.validate("samples", "length", "momentum")
    def _enough(self, proposal: dict[str, Any]) -> Any:
        with checked():
            self.session.recipe.with_calibration(**{proposal["trait"].name: proposal["value"]})
        return proposal["value"]

    @t.validate("source")
    def _offered(self, proposal: dict[str, Any]) -> str:
        if served() and proposal["value"] not in ("bundled", "upload"):
            raise Refused(f"source {proposal['value']!r} is not offered here; upload a text file.")
        return str(proposal["value"])

    @t.validate("text", "dataset", "images")
    def _may_read(self, proposal: dict[str, Any]) -> str:
        name, value = proposal["trait"].name, proposal["value"].strip()
        if value and not self.following:
            if served():  # whatever a browser may send
                raise Refused(f"{OWNERS_ONLY[name]} is not taken here; upload a text file.")
            if name == "text":
                with checked():
                    refuse_held_out(read_text(value), value)
        return str(value)

    def calibrate(self) -> "Job":
        """Queue calibration of the smoothed, quantized model; earlier stages are made up for."""
        return self.submit("calibrate")

    def freeze(self) -> "Job":
        """Queue freezing: weights become integers and activation ranges are fixed."""
        return self.submit("freeze")

    def upload(self, name: str, content: bytes | str, size: int = 0) -> Path:
        """Calibrate on an uploaded text file from now on; returns where it was written.

        `content` is bytes, or base64 as a browser sends it: empty where the file is of a `size`
        that the browser did not send. Refused (WorkbenchError) when above one megabyte, not UTF-8
        text, or text that models are judged on. Its owner finds it in `uploads`, a visitor's goes
        with the kernel.
        """
        path = keep(name, content, size)
        self.source = "upload"
        self._take(text=str(path), text_sha256=digest(path.read_bytes()))
        return path

    def refresh(self) -> None:
        """Show the recipe's choices, how far the session is, and what freezing changed."""
        session = self.session
        if self.recipe_is_new():
            calibration = session.recipe.calibration
            for name in (*NUMBERS, "observer", "column"):
                setattr(self, name, getattr(calibration, name))
            for name in ("dataset", "subset", "images"):
                setattr(self, name, getattr(calibration, name) or "")
            text = calibration.text or ""
            self.text = Path(text).name if served() else text
            if calibration.source != self._told:  # or a choice not named yet would be taken back
                self._told = calibration.source
                self.source = self._source_of(calibration)
            self.scheme = session.recipe.scheme
        self.stage = session.stage
        model = session.model if session.frozen else None
        self.changes = [] if model is None else changes(session)
        self.left = [] if model is None else left_in_float(model)

    def _source_of(self, calibration: Any) -> Source:
        named = next((n for n in ("dataset", "images") if getattr(calibration, n)), None)
        if named is not None:
            return cast(Source, named)
        if calibration.text is None:
            return "bundled"
        return "upload" if served() or self.source == "upload" else "file"

    def _edit(self, change: Any) -> None:
        if not self.following:
            recipe = self.session.recipe
            self.session.update(recipe.with_calibration(**{change["name"]: change["new"]}))

    def _choose(self, change: Any) -> None:
        if not self.following:
            self.session.update(self.session.recipe.with_scheme(cast(Scheme, change["new"])))

    def _use(self, change: Any) -> None:
        """Put into the recipe what the chosen source names, once it names something."""
        if self.following:
            return
        named = {"text": "file", "dataset": "dataset", "images": "images"}.get(change["name"])
        if change["new"] and named not in (None, self.source):
            self.source = named  # which calls this again
        elif self.source == "bundled":
            self._take()
        elif self.source == "file" and self.text:
            content = Path(self.text).expanduser().read_bytes()
            self._take(text=self.text, text_sha256=digest(content))
        elif self.source == "dataset" and self.dataset:
            self._take(dataset=self.dataset, subset=self.subset or None, column=self.column)
        elif self.source == "images" and self.images:
            self._take(images=self.images)

    def _take(self, **source: str | None) -> None:
        none = dict.fromkeys(("text", "text_sha256", "dataset", "subset", "images"))
        values = none | {"column": "text"} | source
        self.session.update(self.session.recipe.with_calibration(**values))
