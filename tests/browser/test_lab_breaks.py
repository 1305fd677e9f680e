"""What goes wrong in JupyterLab, and that nothing is lost or hangs."""

import pytest
from drawn import go

pytestmark = pytest.mark.browser

CARDS = "[data-view=alpha] svg[data-strip=difficulty]"
CODE = "pre[data-language=python]"


@pytest.fixture(scope="module")
def notebook(new_page, lab):
    """A tab with the notebook, run from top to bottom."""
    page = open_tab(new_page, lab, "first-tab")
    run_all(page)
    return page


def open_tab(new_page, lab, name: str):
    page = new_page(name)
    page.set_viewport_size({"width": 1366, "height": 1800})
    page.goto(f"{lab}/lab/tree/workbench.ipynb")
    page.wait_for_selector(".jp-Notebook .jp-CodeCell")
    return page


def run_all(page) -> None:
    page.get_by_text("| Idle").wait_for()
    menu(page, "Run", "Run All Cells")
    go(page, "all")
    page.wait_for_selector(CARDS)
    page.get_by_text("| Idle").wait_for()


def menu(page, name: str, entry: str) -> None:
    page.get_by_role("menuitem", name=name, exact=True).click()
    page.get_by_text(entry, exact=True).click()


def set_alpha(page, value: str) -> None:
    number = page.get_by_label("alpha, as a number")
    number.fill(value)
    page.keyboard.press("Tab")
    page.locator(CODE).filter(has_text=f"alpha={value}").wait_for()


def test_a_cell_that_raises_leaves_the_views_at_work(notebook) -> None:
    notebook.locator(".jp-Notebook .jp-CodeCell .cm-content").last.click()
    notebook.keyboard.press("Escape")
    notebook.keyboard.press("b")
    notebook.keyboard.press("Enter")
    notebook.keyboard.type("1 / 0")
    notebook.keyboard.press("Shift+Enter")
    notebook.get_by_text("ZeroDivisionError: division by zero").wait_for()
    set_alpha(notebook, "0.31")


def test_a_second_tab_on_the_kernel_and_a_tab_reopened_show_what_is(
    notebook, new_page, lab, pictures
) -> None:
    menu(notebook, "File", "Save Notebook")
    second = open_tab(new_page, lab, "second-tab")
    second.wait_for_selector(CARDS)
    second.locator(CODE).filter(has_text="alpha=0.31").wait_for()
    set_alpha(second, "0.72")
    notebook.locator(CODE).filter(has_text="alpha=0.72").wait_for()
    second.screenshot(path=pictures / "lab-second-tab.png")
    second.goto("about:blank")
    set_alpha(notebook, "0.44")
    reopened = open_tab(new_page, lab, "reopened-tab")
    reopened.wait_for_selector(CARDS)
    reopened.locator(CODE).filter(has_text="alpha=0.44").wait_for()
    reopened.goto("about:blank")


def test_a_restarted_kernel_needs_another_run_and_gives_back_the_recipe(notebook, pictures) -> None:
    notebook.bring_to_front()
    set_alpha(notebook, "0.57")
    menu(notebook, "Kernel", "Restart Kernel…")
    notebook.get_by_role("button", name="Confirm Kernel Restart").click()
    run_all(notebook)
    offer = notebook.locator(".qw-left")
    offer.filter(has_text="W8A8 O3 alpha 0.57").wait_for()
    notebook.locator(CODE).filter(has_text="alpha=0.5,").wait_for()  # as the notebook says
    offer.scroll_into_view_if_needed()
    notebook.screenshot(path=pictures / "lab-restore.png")
    offer.get_by_role("button", name="Restore it").click()
    notebook.locator(CODE).filter(has_text="alpha=0.57").wait_for()
    offer.wait_for(state="hidden")
    set_alpha(notebook, "0.58")
