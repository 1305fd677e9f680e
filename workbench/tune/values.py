"""Rotate the values of attention within each head; the float output stays the same."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from workbench.graph import InputGroup, input_groups
from workbench.graph.calls import deviation, run
from workbench.progress import track
from workbench.smooth.fold import Change, output_axis
from workbench.tune.hadamard import rotation_matrix

TOLERANCE = 1e-3  # of the largest output; what rounding to float32 adds is below
SMALLEST = 2  # channels of a block


@dataclass(frozen=True)
class RotatedValues:
    """A layer that makes values, what reads them mixed by attention, and how wide a head is."""

    maker: str
    readers: tuple[str, ...]
    head: int  # channels
    deviation: float  # of the float output, relative to its largest value


@torch.no_grad()
def rotate_values(model: nn.Module, batch: Mapping[str, Any], seed: int = 0) -> list[RotatedValues]:
    """Rotate values by a random Hadamard matrix Q in each head, wherever nobody can notice.

    QuaRot's rotation inside attention (arXiv:2404.00456, section 4), for any architecture:
    attention weighs all channels of a head alike, so rows of the layer that makes the values become
    `Q^T W` and columns of the one that reads the result `W Q`; nothing is left to do at run time.
    How wide a head is shows on trial: the widest blocks that leave the float output for `batch` as
    it was, within rounding; it needs several tokens, for one alone is its own mean in every head.
    Two linears with nothing between them are one head. Parameters are replaced, never written to;
    what cannot be rotated stays as it is.
    """
    before = run(model, batch)
    found: list[RotatedValues] = []
    kept: list[Change] = []
    try:
        for group in track(_pairs(input_groups(model, batch)), "rotating values"):
            trial = _Trial(model, batch, before, group, seed)
            *wider, smallest = _widths(trial.rows)
            if trial.turn(smallest) is None:
                continue  # no values: of a product with a gate, say, each channel is for itself
            trial.change.undo()
            likely = [one.head for one in found[-1:] if one.head in wider]  # layers are alike
            for head in dict.fromkeys([*likely, *wider, smallest]):
                if (moved := trial.turn(head)) is not None:
                    found.append(RotatedValues(str(group.maker), group.readers, head, moved))
                    kept.append(trial.change)
                    break
    except BaseException:
        for change in reversed(kept):
            change.undo()
        raise
    for one in found:  # whoever compares outputs layer by layer has to know
        model.get_submodule(one.maker).__dict__["output_rotated"] = True
    return found


def _pairs(groups: list[InputGroup]) -> list[InputGroup]:
    """The groups whose channels a linear makes, every one of them."""
    return [g for g in groups if g.foldable and not g.is_norm and min(g.rows) >= 0]


def _widths(rows: Tensor) -> Iterator[int]:
    """Widths of blocks, falling, that each read as many channels of the maker, or the very same."""
    for width in range(len(rows), SMALLEST - 1, -1):
        if len(rows) % width == 0:
            blocks = {tuple(block) for block in rows.view(-1, width).tolist()}
            if len({row for block in blocks for row in block}) == len(blocks) * width:
                yield width


class _Trial:
    """Rotates the values of one group and tells how far the float output moved."""

    def __init__(
        self,
        model: nn.Module,
        batch: Mapping[str, Any],
        before: list[Tensor],
        group: InputGroup,
        seed: int,
    ) -> None:
        self.model, self.batch, self.before = model, batch, before
        self.group, self.seed = group, seed
        self.rows = torch.tensor(group.rows)
        self.change = Change(model)

    def turn(self, head: int) -> float | None:
        """Rotate blocks of `head` channels; None, and undone, where the output moves too far."""
        try:
            self._rotate(rotation_matrix(head, self.seed))
            moved = deviation(run(self.model, self.batch), self.before)
        except BaseException:
            self.change.undo()
            raise
        if moved <= TOLERANCE:
            return moved
        self.change.undo()
        return None

    def _rotate(self, turn: Tensor) -> None:
        name = str(self.group.maker)
        maker = self.model.get_submodule(name)
        blocks = {tuple(block) for block in self.rows.view(-1, len(turn)).tolist()}
        order = torch.tensor(sorted(blocks)).flatten()
        for parameter, axis in (("weight", output_axis(maker)), ("bias", 0)):
            held = maker._parameters.get(parameter)
            if held is not None:
                made = held.detach().movedim(axis, -1).clone()
                made[..., order] = _turned(made[..., order], turn)
                self.change.parameter(name, parameter, made.movedim(-1, axis))
        for matrix in self.group.matrices:
            held = self.model.get_submodule(matrix.module)._parameters[matrix.parameter]
            assert held is not None
            made = _turned(held.detach().movedim(matrix.axis, -1), turn)
            self.change.parameter(matrix.module, matrix.parameter, made.movedim(-1, matrix.axis))


def _turned(values: Tensor, turn: Tensor) -> Tensor:
    """`values` [..., blocks x width] with each block multiplied by `turn`."""
    blocks = values.double().unflatten(-1, (-1, len(turn)))
    return (blocks @ turn.to(values.device)).flatten(-2).to(values.dtype)
