"""Narrower linears than a config can say: a spec in the config, and who builds models by it."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

KEY = "workbench_shapes"

Spec = dict[str, dict[str, Any]]
"""`linears`: [out, in] by name; `attributes`: values by name of the module. Names as in the base
model, so that a model with another head on it finds them too."""


def shapes_of(config: Any) -> Spec:
    """What `config` says of shapes, empty where nothing."""
    said = getattr(config, KEY, None) or {}
    return {part: dict(said.get(part, {})) for part in ("linears", "attributes")}


def base_name(model: Any, name: str) -> str:
    """The name of a module of `model` inside its base model."""
    prefix = f"{getattr(model, 'base_model_prefix', '')}."
    return name.removeprefix(prefix) if prefix != "." else name


def note(model: Any, linears: Mapping[str, nn.Linear], attributes: Mapping[str, Any]) -> None:
    """Add to the spec in the config of `model` what these modules of it have become."""
    spec = shapes_of(model.config)
    for name, linear in linears.items():
        spec["linears"][base_name(model, name)] = [linear.out_features, linear.in_features]
    for name, values in attributes.items():
        held = spec["attributes"].get(base_name(model, name), {})
        spec["attributes"][base_name(model, name)] = held | dict(values)
    setattr(model.config, KEY, spec)


def reshape(model: Any) -> None:
    """Give the linears of a new `model` the shapes of its config, their values to be loaded."""
    spec = shapes_of(getattr(model, "config", None))
    if not spec["linears"]:
        return
    modules = dict(model.named_modules())
    for name, (rows, columns) in spec["linears"].items():
        linear = modules.get(name)
        if not isinstance(linear, nn.Linear) or tuple(linear.weight.shape) == (rows, columns):
            continue
        linear.out_features, linear.in_features = rows, columns
        linear.weight = nn.Parameter(linear.weight.new_empty(rows, columns))
        if linear.bias is not None:
            linear.bias = nn.Parameter(torch.zeros_like(linear.weight[:, 0]))
    for name, values in spec["attributes"].items():
        if name in modules:
            modules[name].__dict__.update(values)


def install() -> None:
    """Let every model of transformers be built by the shapes in its config."""
    from transformers import PreTrainedModel

    before = PreTrainedModel.post_init
    if getattr(before, "reshapes", False):
        return

    def post_init(self: Any) -> None:
        reshape(self)  # first, so that what no checkpoint holds is drawn in its shape
        before(self)

    post_init.reshapes = True  # type: ignore[attr-defined]
    PreTrainedModel.post_init = post_init  # type: ignore[method-assign]
