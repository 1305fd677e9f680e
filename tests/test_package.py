"""What `import workbench` gives, and what it does not load."""

import subprocess
import sys

import pytest


def python(code: str) -> str:
    """Run `code` in a fresh interpreter; return what it prints."""
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    ).stdout


def test_importing_loads_neither_torch_nor_transformers() -> None:
    loaded = python("import sys, workbench; print(*sys.modules)").split()
    assert "workbench" in loaded
    assert not {"torch", "transformers", "ipywidgets", "plotly"} & set(loaded)


def test_the_core_loads_no_widgets() -> None:
    loaded = python(
        "import sys, workbench as wb; [getattr(wb, name) for name in wb.__all__]; "
        "print(*sys.modules)"
    ).split()
    assert "torch" in loaded
    assert not {"ipywidgets", "plotly", "anywidget", "jupyterlab"} & set(loaded)


@pytest.mark.parametrize("first", ["Session", "smooth", "load", "Recipe"])
def test_verbs_are_functions_whatever_was_imported_before(first) -> None:
    """A subpackage of the same name must not take the function's place."""
    code = (
        f"import workbench as wb; wb.{first}\n"
        "import workbench.session, workbench.compare, workbench.observe\n"
        "print(*(callable(f) for f in (wb.compare, wb.observe, wb.smooth, wb.quantize)))"
    )
    assert python(code).split() == ["True"] * 4
