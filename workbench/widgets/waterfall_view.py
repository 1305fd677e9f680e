"""What each step of making a model smaller brought, with the price of the machine to choose."""

from typing import Any

import ipywidgets
import traitlets as t

from workbench.errors import WorkbenchError
from workbench.waterfall import Waterfall
from workbench.waterfall.page import html


class WaterfallView(ipywidgets.VBox):
    """The picture and the tables of a `workbench.Waterfall`; costs follow the price at once.

    Everything shown was measured, but the costs, which are times at that price.
    """

    price_per_hour = t.Float(1.0)
    """Of an hour of the machine, in any currency.
    - Type: `float` above 0, default: that of the figures
    """

    def __init__(self, found: Waterfall) -> None:
        self._found = found
        self._page = ipywidgets.HTML()
        self.field = ipywidgets.BoundedFloatText(
            value=found.price_per_hour,
            min=1e-6,
            max=1e6,
            step=0.01,
            description="Price of an hour of this machine:",
            style={"description_width": "initial"},
        )
        super().__init__([self.field, self._page], price_per_hour=found.price_per_hour)
        t.link((self.field, "value"), (self, "price_per_hour"))
        self.observe(self._show, "price_per_hour")
        self._show(None)

    @t.validate("price_per_hour")
    def _valid(self, proposal: dict[str, Any]) -> float:
        if not proposal["value"] > 0:
            raise WorkbenchError(
                f"a price of {proposal['value']} an hour is none; give one above 0"
            )
        return float(proposal["value"])

    def _show(self, _: Any) -> None:
        self._page.value = html(
            self._found.model_copy(update={"price_per_hour": self.price_per_hour})
        )
