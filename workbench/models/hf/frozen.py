"""Loading a frozen checkpoint onto a model that transformers made on the meta device."""

from typing import Any

import torch
from torch import Tensor

from workbench.models.hf.shield import shield, unshield
from workbench.models.manifest import Manifest, by_module, decoded
from workbench.ops.mapped import aligned
from workbench.quant import QModule
from workbench.quant.dtypes import torch_dtype
from workbench.quant.quantize import replace_module
from workbench.quant.requantize import (
    check,
    completed,
    fill,
    frozen_twins,
    share_tied,
    tied_names,
    wanted_numbers,
)


class FrozenLoader:
    """Puts quantized modules in place before transformers reads the files, and finishes them after.

    In between they hold their tensors as they lie on disk.
    """

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self.twins: dict[str, QModule] = {}
        self.shapes: dict[str, dict[str, torch.Size]] = {}
        self.on_disk: dict[str, list[str]] = {}
        self.ties: list[list[str]] = []
        self.asked: torch.dtype | None = None  # for floats, instead of the model's main dtype

    def lay_out(self, model: Any, outlines: dict[str, Tensor]) -> None:
        """Replace the modules of `model` that are quantized; `outlines` is what the files hold.

        Raises WorkbenchError, before any tensor is read, where a quantized module lacks one or has
        one that does not fit.
        """
        entries = self.manifest.quantization_map
        self.twins = frozen_twins(model, entries)
        self.ties = tied_names(model, self.twins)
        found = completed(self.manifest.decoded(outlines), self.ties)
        here = by_module(outlines)
        for name, twin in self.twins.items():
            own = set(twin.state_dict()) - set(twin.quantized_buffers())  # such as the bias
            numbers = {
                key: tensor
                for key, tensor in found.items()
                if key.rpartition(".")[0] == name and key.rpartition(".")[2] not in own
            }
            check(wanted_numbers(name, twin), numbers)
            replace_module(model, name, twin)
            # So that `weight` is, for now, what lies under that name, not a view of a quantized one
            self.shapes[name], twin.shapes = twin.shapes, {}
            for key in set(twin.quantized_buffers()) - {"multiplier", "panels"}:
                twin._buffers.pop(key, None)
            self.on_disk[name] = [key for key in here.get(name, {}) if key not in own]
            for key in self.on_disk[name]:
                twin.register_buffer(key, here[name][key].to("meta"))
            shield(twin, self.shapes[name])
        ties = getattr(model, "all_tied_weights_keys", {})
        for pair in list(ties.items()):
            if any(self._is_quantized(name) for name in pair):
                del ties[pair[0]]

    def settle(self, model: Any) -> None:
        """Bring what was read into the form it has in memory."""
        main = torch_dtype(self.manifest.dtype)

        def dtype(own: torch.dtype) -> torch.dtype:
            return self.asked if own == main and self.asked is not None else own

        for name, twin in self.twins.items():
            twin.shapes = self.shapes[name]
            unshield(twin, twin.shapes)
            stored = {key: twin._buffers.pop(key) for key in self.on_disk[name]}
            numbers = decoded(self.manifest.quantization_map[name], stored)  # type: ignore[arg-type]
            if numbers:
                fill(twin, numbers)
            if twin.weights is not None:
                twin.like = twin.like.to(dtype(twin.like.dtype))
            for key in (f"{twin.side}_scale", f"{twin.side}_zero_point", "input_transform"):
                twin._buffers.setdefault(key, None)
        self._share()
        for key, tensor in model.state_dict(keep_vars=True).items():
            owner, _, last = key.rpartition(".")
            if owner in self.twins and last in self.twins[owner].quantized_buffers():
                continue
            if tensor.is_floating_point():
                own = self.manifest.dtype_of(key, tensor.dtype)
                tensor.data = aligned(tensor.data.to(dtype(own)))
        for twin in self.twins.values():  # last: a state_dict would undo what it packs
            twin.prepare()
        share_tied(self.twins, self.ties)

    def _is_quantized(self, name: str) -> bool:
        """Whether the parameter `name` of the float model is one that integers replace."""
        owner, _, last = name.rpartition(".")
        return owner in self.twins and last in self.twins[owner].weight_names

    def _share(self) -> None:
        """Give tied weights the integers of the one that was stored."""
        for group in self.ties:
            if not self._is_quantized(group[0]):  # a bias, say; transformers ties it
                continue
            owners = [name.rpartition(".")[0] for name in group]
            first = next((o for o in owners if self.on_disk.get(o)), None)
            for owner in owners if first in self.twins else ():
                buffers = self.twins[owner]._buffers
                for key, tensor in self.twins[first]._buffers.items():  # type: ignore[index]
                    if key.startswith("weight"):
                        buffers.setdefault(key, tensor)
