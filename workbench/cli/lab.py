"""`workbench lab`: JupyterLab on the notebooks."""

import argparse
from pathlib import Path

from workbench.cli.extra import require_lab


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the parser."""
    lab = commands.add_parser("lab", help="open JupyterLab on the workbench notebook")
    lab.add_argument(
        "folder", nargs="?", type=Path, help="where to work (default: ./notebooks, made if missing)"
    )
    lab.add_argument("--port", type=int, default=8888, help="default: %(default)s")
    lab.add_argument("--no-browser", action="store_true", help="print the address only")
    lab.set_defaults(command=_lab)


def _lab(arguments: argparse.Namespace) -> int:
    require_lab()
    from workbench import serve

    return serve.lab(arguments.folder, port=arguments.port, browser=not arguments.no_browser)
