"""The tensors of a model as they lie on disk, made one module at a time."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from workbench.models.manifest import Manifest, by_module, encoded, frozen_modules
from workbench.quant import QModule
from workbench.quant.dtypes import dtype_name
from workbench.quant.modules.panels import panels_as_they_lie


class OnDisk:
    """What a checkpoint of the frozen `model` holds: each shared tensor once, floats shortened.

    `manifest` knows all dtypes once every tensor was made. Raises WorkbenchError where a quantized
    module is not frozen.
    """

    def __init__(self, model: nn.Module, note: str = "") -> None:
        self.manifest = Manifest.of(model, note)
        self.modules = frozen_modules(model)
        with panels_as_they_lie():
            self.owners = by_module(_unshared(model, self.modules))

    def tensors(self, owner: str) -> dict[str, Tensor]:
        """Make the tensors of the module `owner`, by full name."""
        own, numbers = self.owners[owner], set[str]()
        if owner in self.modules:
            numbers.update(self.modules[owner].quantized_buffers())
            own = self.modules[owner].unpacked(own)
            own = encoded(self.manifest.quantization_map[owner], own)
        made = {}
        for last, tensor in own.items():
            key = f"{owner}.{last}" if owner else last
            short = tensor if last in numbers else _shortened(tensor)
            if short.dtype != tensor.dtype:
                self.manifest.dtypes[key] = dtype_name(tensor.dtype)
            made[key] = short.contiguous().cpu()
        return made

    def chosen(self, keys: Iterable[str]) -> dict[str, Tensor]:
        """Make the tensors of these names."""
        wanted = set(keys)
        owners = dict.fromkeys(key.rpartition(".")[0] for key in keys)
        made = (self.tensors(owner) for owner in owners)
        return {key: tensor for own in made for key, tensor in own.items() if key in wanted}

    def everything(self) -> dict[str, Tensor]:
        """Make all tensors."""
        made = map(self.tensors, self.owners)
        return {key: tensor for own in made for key, tensor in own.items()}

    def outlines(self) -> dict[str, Tensor]:
        """All tensors on the meta device; each is made and let go."""
        return {
            key: torch.empty_like(tensor, device="meta")
            for owner in self.owners
            for key, tensor in self.tensors(owner).items()
        }


def _unshared(model: nn.Module, modules: dict[str, QModule]) -> dict[str, Tensor]:
    """The state of `model`: a tied weight under its first name only, other shared tensors copied.

    Loading ties weights again; files cannot hold one tensor under two names.
    """
    tied = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    for name, module in modules.items():
        starts = tuple(f"{name}.{weight}" for weight in module.weight_names)
        tied.update(key for key in module.state_dict(prefix=f"{name}.") if key.startswith(starts))
    kept: dict[str, Tensor] = {}
    seen: set[tuple[int, torch.Size, torch.dtype]] = set()
    for key, tensor in model.state_dict().items():
        identity = (tensor.data_ptr(), tensor.shape, tensor.dtype)
        again = tensor.numel() > 0 and identity in seen
        if not (again and key in tied):
            kept[key] = tensor.clone() if again else tensor
        seen.add(identity)
    return kept


def _shortened(tensor: Tensor) -> Tensor:
    """The tensor as bfloat16 where that holds every value of it."""
    if tensor.dtype != torch.float32 or tensor.numel() < 2:
        return tensor
    short = tensor.to(torch.bfloat16)
    return short if torch.equal(short.to(torch.float32), tensor) else tensor
