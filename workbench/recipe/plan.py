"""The plan: what came of a recipe, layer by layer."""

from collections.abc import Mapping
from typing import Self

from pydantic import BaseModel, ConfigDict
from torch import nn

from workbench.quant import QModule, why_in_float
from workbench.recipe.numbers import Numbers
from workbench.recipe.spec import Recipe
from workbench.smooth import Smoothing


class LayerPlan(BaseModel):
    """One matrix layer: bits, scheme, smoothing, which op runs and why, bytes before and after.

    `numbers` says how its integers were chosen, where a budget or algorithms did.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    kind: str
    bits: int
    scheme: str
    how: str
    alpha: float | None
    op: str
    op_reason: str
    bytes: int
    float_bytes: int
    reason: str
    numbers: Numbers | None = None


class Plan(BaseModel):
    """Every linear layer of the model in order, quantized or not."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipe: str
    layers: tuple[LayerPlan, ...]

    @classmethod
    def resolve(
        cls,
        recipe: Recipe,
        model: nn.Module,
        smoothing: Smoothing | None,
        numbers: Mapping[str, Numbers] | None = None,
    ) -> Self:
        """Describe `model` as `recipe` left it; complete once it is frozen."""
        layers = []
        chosen = numbers or {}
        for name, module in model.named_modules():
            group = smoothing.of(name) if smoothing else None
            how = group.how if group else "none"
            alpha = group.alpha if group and group.how != "skipped" else None
            reason = smoothing.reason(name) if smoothing else ""
            if isinstance(module, QModule):
                found = _quantized(name, module, how, alpha, reason)
                layers.append(found.model_copy(update={"numbers": chosen.get(name)}))
            elif isinstance(module, nn.Linear) or why_in_float(module):
                assert isinstance(module.weight, nn.Parameter)
                size = module.weight.numel() * module.weight.element_size()
                layers.append(
                    LayerPlan(
                        name=name,
                        kind=type(module).__name__,
                        bits=8 * module.weight.element_size(),
                        scheme="float",
                        how=how,
                        alpha=alpha,
                        op="torch.nn.functional.linear",
                        op_reason=why_in_float(module) or "the recipe leaves this layer in float",
                        bytes=size,
                        float_bytes=size,
                        reason=reason,
                    )
                )
        return cls(recipe=recipe.digest(), layers=tuple(layers))

    def to_json(self) -> str:
        """The plan as JSON text."""
        return self.model_dump_json(indent=2) + "\n"

    def to_code(self) -> str:
        """The plan as the quantize call it amounts to, layer names spelled out."""
        chosen = [layer.name for layer in self.layers if layer.scheme != "float"]
        listed = "".join(f"    {name!r},\n" for name in chosen)
        call = "wb.quantize(model, weights=weights, activations=activations, include=layers)"
        return f"layers = [\n{listed}]\n{call}\n"


def _quantized(name: str, module: QModule, how: str, alpha: float | None, reason: str) -> LayerPlan:
    inputs = module.activations
    if inputs is None:
        scheme = "weights only"
    elif not inputs.dynamic:
        scheme = "o3 (per tensor, static)"
    else:
        scheme = "o1 (per token)" if inputs.granularity == "token" else "o2 (per tensor)"
    tensors = list(module.buffers(recurse=False))
    elements = module.weight.numel()
    assert module.weights is not None
    bits = module.weights.qtype.bits
    return LayerPlan(
        name=name,
        kind=type(module).__name__,
        bits=bits,
        scheme=scheme,
        how=how,
        alpha=alpha,
        op=module.op,
        op_reason=module.op_reason,
        bytes=sum(t.numel() * t.element_size() for t in tensors)
        if module.frozen
        else elements * bits // 8,
        float_bytes=elements * 4,
        reason=reason,
    )
