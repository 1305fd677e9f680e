"""Win back what rounding lost: quantization-aware training, watched, paused, cancelled."""

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import traitlets as t

from workbench.errors import WorkbenchError
from workbench.widgets._arrays import finite, packed
from workbench.widgets._base import View, checked

if TYPE_CHECKING:
    from workbench.session import Job

FIELDS = ("steps", "learning_rate", "distil", "held_out")
LARGE = {"nats a token": 0.05, "of 1 - cosine": 0.02}
"""From which distance from the float model on training is worth offering: 5 % of perplexity."""
HELD_OUT = 1  # of the calibration batches, for a training that the panel begins


class TrainingPanel(View):
    """Steps, rate and loss of quantization-aware training, with its curve while it goes on."""

    module = "training_panel"
    calls = ("train", "pause", "resume", "drop")
    verbs: ClassVar = ("train",)

    steps = t.Int(100).tag(sync=True)
    """Batches to train on.
    - Type: `int` of at least 1, default: the recipe's, or 100
    """
    learning_rate = t.Float(1e-4).tag(sync=True)
    """The highest rate of the cycle.
    - Type: `float` above 0, default: the recipe's, or 1e-4
    """
    distil = t.Bool(True).tag(sync=True)
    """Whether the float model teaches; else the loss is the model's own.
    - Type: `bool`, default: `True`
    """
    held_out = t.Int(HELD_OUT).tag(sync=True)
    """Calibration batches kept from training, which judge the step whose weights are kept.
    - Type: `int` of at least 0 (the last step's are kept), default: the recipe's, or 1
    """
    planned = t.Bool(False).tag(sync=True)
    """Whether the recipe has a training section."""
    advice = t.Unicode("").tag(sync=True)
    """What the newest comparison says for or against training."""
    offered = t.Bool(False).tag(sync=True)
    """Whether the loss asks for training."""
    losses = t.Bytes().tag(sync=True)
    """The loss of every step so far, float32."""
    judged = t.Dict().tag(sync=True)
    """The loss on held-out batches by number of steps."""
    kept = t.Int(None, allow_none=True).tag(sync=True)
    """After how many steps the weights are those of the model; None before training has ended.
    - Type: `int | None`
    """
    paused = t.Bool(False).tag(sync=True)
    """Whether training waits."""

    def __init__(self, session: Any, **keywords: Any) -> None:
        super().__init__(session, **keywords)
        self.observe(self._edit, list(FIELDS))

    @t.validate(*FIELDS)
    def _valid(self, proposal: dict[str, Any]) -> Any:
        with checked():
            self.session.recipe.with_training(**{proposal["trait"].name: proposal["value"]})
        return proposal["value"]

    def train(self) -> "Job":
        """Put training into the recipe and queue it."""
        recipe = self.session.recipe
        self.session.update(recipe.with_training(**{name: getattr(self, name) for name in FIELDS}))
        return self.submit("train")

    def pause(self) -> None:
        """Hold training before its next step."""
        self._running().pause()

    def resume(self) -> None:
        """Let training go on."""
        self._running().resume()

    def drop(self) -> None:
        """Take training out of the recipe."""
        self.session.update(self.session.recipe.without_training())

    def refresh(self) -> None:
        """Show the recipe's section, the losses so far, and what the comparison says."""
        session = self.session
        section = session.recipe.training
        self.planned = section is not None
        if self.recipe_is_new() and section is not None:
            for name in FIELDS:
                setattr(self, name, getattr(section, name))
        curve = session.curve
        steps = curve.losses if curve else session.losses.steps if session.losses else ()
        held_out = curve.held_out if curve else session.losses.held_out if session.losses else {}
        if len(steps) != len(self.losses) // 4 or curve:
            self.losses = packed(np.array(steps))
        self.judged = {str(step): finite(loss) for step, loss in held_out.items()}
        self.kept = None if curve is None else len(steps) if curve.kept is None else curve.kept
        self.paused = any(job.paused for job in list(session.jobs) if not job.ended)
        self._advise()

    def _advise(self) -> None:
        comparison = self.session.comparison
        if comparison is None:
            self.offered = False
            self.advice = "Compare first: training is for a loss that is worth winning back."
            return
        unit = "nats a token" if comparison.kl is not None else "of 1 - cosine"
        found = comparison.divergence
        self.offered = not found < LARGE[unit]  # what is no number is as bad as it gets
        said = f"The quantized model is {found:.3g} {unit} from the float one"
        if self.offered:
            self.advice = f"{said}, more than {LARGE[unit]:g}: smooth, give more bits, or train."
        else:
            self.advice = f"{said}, less than {LARGE[unit]:g}: training has little to win."

    def _running(self) -> "Job":
        found = [job for job in list(self.session.jobs) if job.verb == "train" and not job.ended]
        if not found:
            raise WorkbenchError("no training is running; start one first.")
        return found[0]

    def _edit(self, _: Any) -> None:
        if self.following or self.session.recipe.training is None:
            return
        values = {name: getattr(self, name) for name in FIELDS}
        self.session.update(self.session.recipe.with_training(**values))
