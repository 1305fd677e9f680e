"""How many bits each layer gets: edited by hand, or allocated, against predicted and measured."""

from typing import TYPE_CHECKING, Any, ClassVar

import traitlets as t

from workbench.errors import WorkbenchError
from workbench.recipe import layer_bits, with_layer_bits
from workbench.tune import Budget
from workbench.widgets._arrays import finite, group_of, same
from workbench.widgets._base import View, checked
from workbench.widgets._points import baseline, measured_points, predicted_points, recipe_of

if TYPE_CHECKING:
    from workbench.session import Job

MB = 1e6
SCALES = ("channel", "group", "affine group")


class BitsEditor(View):
    """A row of widths for each layer, the size at once, and the front of error against size."""

    module = "bits_editor"
    calls = ("set_bits", "undo", "redo", "predict", "allocate", "measure_recipe", "restore")
    verbs: ClassVar = ("sensitivity", "allocate", "time")

    rows = t.List(t.Dict()).tag(sync=True)
    """One dictionary a linear layer in order: `name`, `group`, `parameters`, `float_bytes`, and by
    width `bytes`, `refused` (why it cannot be had) and `damage` (predicted; empty before).
    """
    bits = t.Dict().tag(sync=True)
    """Width of each layer by name, None for one left in float; empty where the recipe leaves the
    choice to a budget ("auto").
    """
    other_bytes = t.Int(0).tag(sync=True)
    """Bytes of what is no linear layer: embeddings, norms, biases."""
    measure_of = t.Unicode("").tag(sync=True)
    """What damage is: `"kl"` (nats a token) or `"relative error"`; empty before it is predicted."""
    points = t.List(t.Dict()).tag(sync=True)
    """The front: dictionaries of `key`, `kind` ("predicted" or "measured"), `error`, `bytes`, `ms`
    (None where speed was not measured), `label`, `current` (whether it is the recipe in force).
    """
    float_point = t.Dict().tag(sync=True)
    """The float model: `bytes`, and `ms` (None where speed was not measured)."""
    sort = t.Enum(("order", "error"), "error").tag(sync=True)
    """Rows in the order of the model, or most damage for each byte saved first.
    - Type: `str`, `"order"` or `"error"`, default: `"error"`
    """
    axis = t.Enum(("size", "time"), "size").tag(sync=True)
    """What the front sets the error against.
    - Type: `str`, `"size"` or `"time"`, default: `"size"`
    """
    scales = t.Enum(SCALES, "channel").tag(sync=True)
    """How many scales a weight has: one for each output, one for each group of inputs, or that
    with zero points.
    - Type: `str`, one of `channel`, `group`, `affine group`, default: the recipe's
    """
    budget = t.Float(0.0, min=0.0).tag(sync=True)
    """The limit that `allocate` keeps to: MB of the whole model, or mean bits of its layers.
    - Type: `float` above 0, default: half-way from 8 bits to 4
    """
    budget_kind = t.Enum(("MB", "mean bits"), "MB").tag(sync=True)
    """What `budget` limits.
    - Type: `str`, `"MB"` or `"mean bits"`, default: `"MB"`
    """
    group = t.Unicode("").tag(sync=True)
    """The chosen input; the layers that read it are marked.
    - Type: `str`, default: `""`
    """
    can_undo = t.Bool(False).tag(sync=True)
    """Whether there is a change of the recipe to take back."""
    can_redo = t.Bool(False).tag(sync=True)
    """Whether there is a change that was taken back."""
    history = t.Unicode("").tag(sync=True)
    """Why runs of other sessions are missing; empty where they are not."""

    def __init__(self, session: Any, **keywords: Any) -> None:
        self._known: tuple[object, ...] | None = None
        self._weights: object = None
        self._budgeted: object = None
        self._added = -1
        super().__init__(session, **keywords)
        self.observe(self._rescale, "scales")

    @t.validate("scales")
    def _integers_only(self, proposal: dict[str, Any]) -> str:
        with checked():
            if not self.following and self.session.recipe.quantization.weights.qtype.is_float:
                raise WorkbenchError("the recipe's weights are floats, which have no such choice.")
        return str(proposal["value"])

    def set_bits(self, pattern: str, bits: int | None) -> None:
        """Give the layers that `pattern` matches so many bits, or None to leave them in float."""
        names = self._names()
        wanted = {str(pattern): None if bits is None else int(bits)}
        self.session.update(with_layer_bits(self.session.recipe, names, wanted))

    def undo(self) -> None:
        """Take back the last change of the recipe."""
        self.session.undo()

    def redo(self) -> None:
        """Make the change again that was taken back last."""
        self.session.redo()

    def predict(self) -> "Job":
        """Queue the prediction of what each width does to each layer."""
        return self.submit("sensitivity")

    def allocate(self) -> "Job":
        """Queue the choice of bits with the least predicted damage within `budget`."""
        return self.submit("allocate", self._budget())

    def measure_recipe(self) -> "Job":
        """Queue a comparison with the float model, and the speed of both."""
        return self.submit("time")

    def restore(self, key: str) -> None:
        """Put the recipe of the point with this key in force."""
        self.session.update(recipe_of(self.session, key, self._names()))

    def refresh(self) -> None:
        """Show choices, bits, predictions, and every point measured of this model."""
        session = self.session
        recipe = session.recipe
        self.can_undo, self.can_redo = bool(session.past), bool(session.future)
        new = self.recipe_is_new()
        weights = recipe.quantization.weights
        known = (session.loaded, session.damages, session.statistics)
        if not same(self._known, known) or weights != self._weights:
            self._known, self._weights, new = known, weights, True
            self._show_rows()
        if new and not weights.qtype.is_float:
            grouped = "group" if weights.symmetric else "affine group"
            self.scales = grouped if weights.granularity == "group" else "channel"
        if new:
            automatic = recipe.quantization.bits == "auto"
            self.bits = {} if automatic else layer_bits(recipe, self._names())
        if new or session.history.added != self._added:
            self._added = session.history.added
            self.float_point = baseline(session)
            self.points = [*predicted_points(session, self._names()), *measured_points(session)]
            self.history = session.history.problem

    def _show_rows(self) -> None:
        session = self.session
        damages = session.damages.layers if session.damages else {}
        self.measure_of = session.damages.measure if session.damages else ""
        rows: list[dict[str, Any]] = []
        for choice in session.choices():
            found = damages.get(choice.name, {}).values()
            rows.append(
                {
                    "name": choice.name,
                    "group": group_of(session, choice.name),
                    "parameters": choice.parameters,
                    "float_bytes": choice.float_bytes,
                    "bytes": {str(bits): size for bits, size in choice.bytes.items()},
                    "refused": {str(bits): why for bits, why in choice.refused.items()},
                    "damage": {str(damage.bits): finite(damage.output) for damage in found},
                }
            )
        self.rows = rows
        whole = session.loaded.bytes if session.loaded else 0
        self.other_bytes = max(0, whole - sum(row["float_bytes"] for row in rows))
        other_model = self._budgeted is not None and session.loaded is not self._budgeted
        if whole and (other_model or not self.budget):  # half-way from 8 bits to 4
            able = [row for row in rows if row["bytes"]]
            sizes = sum(row["bytes"]["8"] + row["bytes"]["4"] for row in able) / 2
            self.budget_kind = "MB"
            self.budget = round((whole - sum(r["float_bytes"] for r in able) + sizes) / MB, 1)
        self._budgeted = session.loaded or self._budgeted

    def _rescale(self, _: Any) -> None:
        if self.following:
            return
        recipe = self.session.recipe
        grain = "channel" if self.scales == "channel" else "group"
        args = recipe.quantization.weights.model_dump() | {
            "granularity": grain,
            "group_size": None,
            "symmetric": self.scales != "affine group",
        }
        self.session.update(recipe.with_quantization(weights=args))

    def _names(self) -> list[str]:
        """All layers that can be quantized; none before a model is loaded."""
        return [row["name"] for row in self.rows if row["bytes"]]

    def _budget(self) -> Budget:
        if not self.budget > 0:
            raise WorkbenchError(
                f"the budget is {self.budget:g} {self.budget_kind}; give more than 0."
            )
        if self.budget_kind == "mean bits":
            return Budget(kind="mean_bits", limit=self.budget)
        names = self._names()
        left = self.other_bytes + sum(
            row["float_bytes"]
            for row in self.rows
            if row["name"] not in names or (self.bits and self.bits.get(row["name"]) is None)
        )
        if self.budget * MB <= left:
            raise WorkbenchError(
                f"the budget is {self.budget:g} MB, and what stays in float takes {left / MB:.1f} "
                "MB already; give more, or let more layers be quantized."
            )
        return Budget(kind="bytes", limit=self.budget * MB - left)
