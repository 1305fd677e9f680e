"""`workbench doctor`: what this machine can do."""

import argparse


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the parser."""
    doctor = commands.add_parser("doctor", help="show what this machine can do, and why not more")
    doctor.set_defaults(command=_show)


def _show(_arguments: argparse.Namespace) -> int:
    from workbench.console import show_machine

    show_machine()
    return 0
