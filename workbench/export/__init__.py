"""Models as the files that other engines take, each checked before a byte is written."""

from workbench.export.base import Exported, Exporter, Job
from workbench.export.verb import export, exporter_named, exporters

__all__ = ["Exported", "Exporter", "Job", "export", "exporter_named", "exporters"]
