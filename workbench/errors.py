"""The one exception type for requests the workbench refuses."""


class WorkbenchError(ValueError):
    """A refusal whose message names what was found, what is allowed and what to do."""
