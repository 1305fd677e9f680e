"""A question of a teaching notebook whose answer is checked against what was computed."""

import math
from typing import Any

import ipywidgets
import traitlets as t

from workbench.errors import WorkbenchError


class Exercise(ipywidgets.VBox):
    """A question, a field for a number or a menu of `choices`, and a button that checks.

    `answer` is right, and so is a number within `tolerance` of it, a share (0.05: five per cent).
    After each wrong answer the next of `hints` is shown. `check` does what the button does.
    """

    verdict = t.Unicode("")
    """What the last answer was found to be, with the next hint; `""` before the first.
    - Type: `str`
    """

    def __init__(
        self,
        question: str,
        answer: float | str,
        *,
        hints: tuple[str, ...] = (),
        choices: tuple[str, ...] = (),
        tolerance: float = 0.05,
        unit: str = "",
    ) -> None:
        if choices and answer not in choices:
            raise WorkbenchError(f"answer {answer!r} is not among the choices {choices}.")
        if not choices and isinstance(answer, str):
            raise WorkbenchError(f"answer {answer!r} is no number: give choices with it.")
        self._answer, self._hints, self._tolerance, self._tries = answer, hints, tolerance, 0
        label = f"Your answer{f' ({unit})' if unit else ''}:"
        wide = {"description_width": "initial"}
        self.field = (
            ipywidgets.Dropdown(
                options=[("choose", None), *((c, c) for c in choices)],
                description=label,
                style=wide,
            )
            if choices
            else ipywidgets.Text(description=label, style=wide, placeholder="a number")
        )
        button = ipywidgets.Button(description="Check", button_style="primary")
        button.on_click(lambda _: self.check(self.field.value))
        said = ipywidgets.HTML()
        self.observe(
            lambda change: setattr(said, "value", f"<p role=status>{change['new']}</p>"), "verdict"
        )
        asked = ipywidgets.HTMLMath(f"<b>Exercise.</b> {question}")
        super().__init__([asked, ipywidgets.HBox([self.field, button]), said])

    def accepts(self, answer: Any) -> bool:
        """Whether `answer` is right; nothing is shown, so a notebook can test itself."""
        return self._judge(answer)[0]

    def check(self, answer: Any) -> bool:
        """Whether `answer` is right; what is to be said of it is in `verdict`."""
        right, problem = self._judge(answer)
        if right:
            self.verdict = "✓ Right."
            return True
        hints = self._hints[self._tries : self._tries + 1] if not problem else ()
        self._tries += not problem
        self.verdict = problem or " ".join(["✗ Not yet.", *(f"Hint: {hint}" for hint in hints)])
        return False

    def _judge(self, answer: Any) -> tuple[bool, str]:
        """Whether the answer is right, and why it is none."""
        if isinstance(self._answer, str):
            return answer == self._answer, "" if answer else "Choose an answer first."
        try:
            number = float(str(answer).replace(",", "."))
        except ValueError:
            return False, "That is no number: write it as 12.5 or 1.25e1."
        if not math.isfinite(number):
            return False, "That is no finite number."
        return math.isclose(number, self._answer, rel_tol=self._tolerance), ""
