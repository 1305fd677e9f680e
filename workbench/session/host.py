"""Whether a session belongs to a visitor of an app."""

import os

SERVED = "WORKBENCH_SERVED"


def served() -> bool:
    """Tell whether this process belongs to a visitor of an app, not to the owner of a notebook."""
    software = os.environ.get("SERVER_SOFTWARE", "")  # what a Voila that we did not start sets
    return os.environ.get(SERVED) == "1" or software.startswith("voila")
