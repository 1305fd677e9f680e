"""What every algorithm that chooses the numbers of a layer shares, and the registry of them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import ClassVar, TypeVar

from workbench.errors import WorkbenchError
from workbench.quant import QModule
from workbench.tune.layer import Layer
from workbench.tune.site import Site


class Algorithm(ABC):
    """Changes a `Layer`: its weight, its numbers, the integers or the bias."""

    name: ClassVar[str]
    needs_inputs: ClassVar[bool] = True  # otherwise it goes for modules of any kind
    looks_at_readers: ClassVar[bool] = False  # whether it has a `prepare`

    def prepare(self, site: Site) -> None:  # noqa: B027 - most look at one layer at a time
        """Change what all readers of one input share, before the first of them is rounded."""

    @abstractmethod
    def __call__(self, layer: Layer) -> None:
        """Do it."""

    def without_inputs(self, module: QModule) -> None:
        """Do it to a module that is no linear, or that no batch reached."""
        raise NotImplementedError


algorithms: dict[str, type[Algorithm]] = {}
A = TypeVar("A", bound=type[Algorithm])


def register_algorithm(name: str) -> Callable[[A], A]:
    """Class decorator: let recipes and `tune` call the decorated class `name`."""

    def decorate(made: A) -> A:
        made.name = name
        algorithms[name] = made
        return made

    return decorate


Chain = str | Algorithm | Iterable[str | Algorithm]


def chain_of(value: Chain) -> tuple[Algorithm, ...]:
    """Read one algorithm or several, in the order they work; raises WorkbenchError if unknown."""
    parts = (value,) if isinstance(value, str | Algorithm) else tuple(value)
    made = []
    for part in parts:
        if isinstance(part, str) and part not in algorithms:
            raise WorkbenchError(
                f"algorithm {part!r} is unknown; allowed: {', '.join(sorted(algorithms))}"
            )
        made.append(algorithms[part]() if isinstance(part, str) else part)
    return tuple(made)
