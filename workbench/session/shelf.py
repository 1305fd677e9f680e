"""Models and statistics that every session of this process may start from.

A server fills the shelf once and forks its kernels afterwards: they share what lies here.
"""

from dataclasses import dataclass

from workbench.models import LoadedModel
from workbench.observe import Statistics
from workbench.recipe import Recipe


@dataclass(frozen=True)
class Ready:
    """A loaded model with its digest, and what was observed for `recipe`."""

    recipe: Recipe
    loaded: LoadedModel
    digest: str
    statistics: Statistics

    def observed_as(self, recipe: Recipe) -> bool:
        """Whether `recipe` asks for these very statistics."""
        ours = self.recipe
        return (ours.calibration, ours.seed) == (recipe.calibration, recipe.seed)


shelf: dict[str, Ready] = {}
"""By the name under which recipes ask for the model."""
