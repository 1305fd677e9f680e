"""Rotate the residual stream so that no channel stands out; the float output stays the same."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from workbench.errors import WorkbenchError
from workbench.graph import InputGroup, input_groups
from workbench.graph.calls import deviation, run
from workbench.smooth.fold import Change, fold
from workbench.tune.hadamard import rotation_matrix
from workbench.tune.values import TOLERANCE, RotatedValues, rotate_values


@dataclass(frozen=True)
class Rotation:
    """Modules that read the stream, and that write to it, as rotated; norms that lost their gain;
    values that were rotated within their heads.

    `deviation` is how far the float output moved, relative to its largest value. `untied` names a
    head that no longer shares its weight with the embedding.
    """

    readers: tuple[str, ...]
    writers: tuple[str, ...]
    norms: tuple[str, ...]
    values: tuple[RotatedValues, ...]
    untied: str | None
    deviation: float


@torch.no_grad()
def rotate(model: nn.Module, batch: Mapping[str, Any], seed: int = 0) -> Rotation:
    """Rotate the residual stream of a float RMSNorm decoder by a random Hadamard matrix Q.

    QuaRot's first rotation (arXiv:2404.00456, section 4): gains move into the linears that read the
    norms; these become `W Q`, embeddings and the linears that write to the stream `Q^T W`. RMSNorm
    without gain commutes with Q, so nothing is left to do at run time. A head that shares the
    embedding's weight gets one of its own, for it takes the last gain. Values are rotated within
    their heads too (`rotate_values`). Rotations of queries, keys and inputs of down projections,
    which need one at run time, are not part of it. Parameters are replaced, never written to.
    Raises WorkbenchError, with the model as it was, where the stream is not found, or where the
    output for `batch` moved.
    """
    before = run(model, batch)
    kept = [(m, m._parameters.copy()) for m in model.modules()]
    try:
        untied = _untie(model)
        stream = _Stream(model, input_groups(model, batch))
        stream.rotate(seed)
        moved = deviation(run(model, batch), before)
        if not moved <= TOLERANCE:
            raise WorkbenchError(
                f"rotating moved the float output by {moved:.1e} of its largest value, so it "
                "was undone: more than embeddings, RMSNorms and linears deals with this model's "
                "residual stream; use smoothing or AWQ"
            )
        values = rotate_values(model, batch, seed)
    except BaseException:
        for module, parameters in kept:
            module._parameters.update(parameters)
        raise
    for name in stream.writers:  # whoever compares outputs layer by layer has to know
        model.get_submodule(name).__dict__["output_rotated"] = True
    if untied is not None and getattr(model, "config", None) is not None:
        model.config.tie_word_embeddings = False  # type: ignore[union-attr]
    return Rotation(
        tuple(stream.readers),
        tuple(stream.writers),
        tuple(stream.norms),
        tuple(values),
        untied,
        moved,
    )


def _untie(model: nn.Module) -> str | None:
    """Give a linear that shares an embedding's weight a parameter of its own; return its name."""
    shared = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and id(module.weight) in shared:
            weight = module.weight.detach().clone()  # else it would count as shared still
            module.weight = nn.Parameter(weight, module.weight.requires_grad)
            return name
    return None


class _Stream:
    """The residual stream: who reads it, through which norms, and who writes to it."""

    def __init__(self, model: nn.Module, groups: Sequence[InputGroup]) -> None:
        self.model = model
        embeddings = {n: m for n, m in model.named_modules() if isinstance(m, nn.Embedding)}
        if not embeddings:
            raise WorkbenchError("rotating starts at an embedding, and the model has none")
        self.width = next(iter(embeddings.values())).embedding_dim
        self.groups = [g for g in groups if g.norm is not None and len(g.rows) == self.width]
        linears = {n: m for n, m in model.named_modules() if isinstance(m, nn.Linear)}
        self.norms = [g.norm for g in self.groups if g.norm is not None]
        self.readers = [name for group in self.groups for name in group.readers]
        self.writers = [n for n, m in embeddings.items() if m.embedding_dim == self.width]
        self.writers += [
            n for n, m in linears.items() if m.out_features == self.width and n not in self.readers
        ]
        other = next((name for name in self.readers if name not in linears), None)
        if not self.groups or other is not None:
            found = (
                "no norm whose gain can move" if other is None else f"{other}, which is no linear"
            )
            raise WorkbenchError(
                f"rotating needs linears that read the residual stream through norms, and found "
                f"{found}; use smoothing or AWQ"
            )

    def rotate(self, seed: int) -> None:
        """Empty the gains into the readers; turn what readers take and what writers give by Q."""
        turn = rotation_matrix(self.width, seed)
        for group in self.groups:
            assert group.norm is not None
            gain = self.model.get_submodule(group.norm)._parameters["weight"]
            assert gain is not None
            rows = torch.tensor(group.rows, device=gain.device)
            fold(Change(self.model), group, (group.offset + gain.detach())[rows])
        for name in self.readers:
            self._replace(name, "weight", lambda weight: weight @ turn)
        for name in self.writers:
            if isinstance(self.model.get_submodule(name), nn.Embedding):
                self._replace(name, "weight", lambda weight: weight @ turn)
            else:
                self._replace(name, "weight", lambda weight: turn.T @ weight)
                self._replace(name, "bias", lambda bias: bias @ turn)

    def _replace(self, name: str, parameter: str, change: Callable[[Tensor], Tensor]) -> None:
        module = self.model.get_submodule(name)
        old = module._parameters.get(parameter)
        if old is not None:
            made = change(old.detach().double().cpu()).to(old)
            module._parameters[parameter] = nn.Parameter(made, old.requires_grad)
