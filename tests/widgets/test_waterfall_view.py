"""The view of a waterfall: costs follow the price, and nothing else does."""

import pytest

from workbench import WorkbenchError
from workbench.waterfall import Row, Waterfall
from workbench.widgets import WaterfallView


def figures() -> Waterfall:
    values = {"engine": "torch", "parameters": 10, "bytes": 40, "right": None}
    rows = [
        Row(name="padded", step="teacher", padded=True, milliseconds={0: 72.0}, **values),
        Row(name="own", step="dynamic", padded=False, milliseconds={0: 36.0}, **values),
    ]
    return Waterfall(
        title="t", rows=rows, examples=1, length=8, price_per_hour=1.0, notes=[],
        machine={}, versions={},
    )  # fmt: skip


def test_costs_follow_the_price() -> None:
    view = WaterfallView(figures())
    page = view.children[1]
    assert "<td>2,000.00</td>" in page.value  # 72 ms each, 100 million, at 1 an hour
    view.field.value = 0.5
    assert view.price_per_hour == 0.5
    assert "<td>1,000.00</td>" in page.value
    assert "2.0 times" in page.value
    with pytest.raises(WorkbenchError, match="price of -1"):
        view.price_per_hour = -1
    assert "<td>1,000.00</td>" in page.value
