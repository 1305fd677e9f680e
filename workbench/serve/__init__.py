"""Open the notebooks: JupyterLab for their owner, a server of apps for visitors."""

from workbench.serve.commands import lab, serve
from workbench.serve.shipped import notebooks, working_copy

__all__ = ["lab", "notebooks", "serve", "working_copy"]
