"""Load and save models: the bundled ones, local folders and hub ids."""

from workbench.models.bundled import Bundled, bundled
from workbench.models.load import load, load_into
from workbench.models.loaded import LoadedModel
from workbench.models.prompts import Prompt
from workbench.models.save import save

__all__ = ["Bundled", "LoadedModel", "Prompt", "bundled", "load", "load_into", "save"]
