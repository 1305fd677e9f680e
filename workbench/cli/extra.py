"""What the commands that open a browser need installed."""

from importlib.util import find_spec

from workbench.errors import WorkbenchError

LAB = ("ipywidgets", "anywidget", "jupyterlab", "voila")


def require_lab() -> None:
    """Raise WorkbenchError, with the command that mends it, where the extra [lab] is missing."""
    missing = [name for name in LAB if find_spec(name) is None]
    if missing:
        raise WorkbenchError(
            f"This needs the extra [lab], of which {', '.join(missing)} cannot be found; "
            "run: pip install 'quantization-workbench[lab]'"
        )
