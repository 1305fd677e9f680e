"""The command line; one file here is one command, and `workbench bench WHAT` has a folder."""

from workbench.cli.main import main

__all__ = ["main"]
