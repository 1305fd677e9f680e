"""The app of a full run as a visitor meets it: pictures, tables, and costs that follow a price."""

import pytest

from workbench.waterfall import SST2, Waterfall

pytestmark = pytest.mark.browser


def test_the_full_run_is_shown_and_costs_follow_the_price(new_page, voila, pictures) -> None:
    found = Waterfall.load(SST2)
    page = new_page("smaller")
    page.set_viewport_size({"width": 1100, "height": 1500})
    page.goto(f"{voila}/voila/render/smaller.ipynb")
    time, quality = (page.locator("table").nth(place) for place in range(2))
    quality.wait_for()
    assert page.locator("svg[role=img]").count() == 2
    assert page.locator("svg[role=img] circle").count() == len(found.judged)
    for table in (time, quality):
        steps = table.locator("tbody tr td:first-child").all_inner_texts()
        assert steps == [row.name for row in found.rows]
    last = quality.locator("tbody tr").last.locator("td").last
    assert last.inner_text() == f"{found.rows[-1].cost(found.price_per_hour):,.2f}"
    page.screenshot(path=pictures / "smaller.png")
    price = page.get_by_label("Price of an hour of this machine:")
    price.fill("2")
    page.keyboard.press("Tab")
    last.filter(has_text=f"{found.rows[-1].cost(2):,.2f}").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
