"""How much of a model is quantized, and why the rest is not."""

from dataclasses import dataclass, field

from torch import nn

from workbench.graph.compiled import Compiled, compiled
from workbench.quant.modules import QModule, qmodule_for
from workbench.quant.slower import why_in_float


@dataclass(frozen=True)
class Coverage:
    """The share of a model's matrices that are quantized, in bytes of their float form.

    `quantized` and `total` are bytes of matrices, that is, of parameters with two dimensions or
    more, outside embeddings; `exceptions` says for each parameter left in float why, embeddings
    included; `compiled` is what `workbench.compile` made of the model, where it was asked.
    """

    quantized: int
    total: int
    exceptions: dict[str, str] = field(default_factory=dict)
    compiled: Compiled | None = None

    @property
    def share(self) -> float:
        """Bytes quantized of all bytes, 0 to 1; 1 where there is nothing to quantize."""
        return self.quantized / self.total if self.total else 1.0

    def __str__(self) -> str:
        lines = [f"{self.share:.1%} of {self.total / 1e6:.1f} MB of matrices are quantized"]
        if self.compiled is not None:
            lines.append(str(self.compiled))
        return "\n".join([*lines, *(f"{k}: {why}" for k, why in self.exceptions.items())])


def coverage(model: nn.Module) -> Coverage:
    """Weigh what is quantized in `model`, frozen or not, and explain what is not.

    A weight that several modules share counts once, as quantized where any of them quantizes it.
    """
    embedded = {
        id(p)
        for m in model.modules()
        if isinstance(m, nn.Embedding)
        for p in m._parameters.values()
    }
    seen: dict[int, str] = {}
    quantized = 0
    for path, module in model.named_modules():
        if isinstance(module, QModule) and not isinstance(module, nn.Embedding):
            for name, shape in module.shapes.items():
                kept = module._parameters.get(name)
                stored = module._buffers.get(f"{name}_scale") if kept is None else kept
                if id(stored) not in seen:
                    quantized += shape.numel() * module.like.element_size()
                seen[id(stored)] = f"{path}.{name}"
    left, exceptions = 0, {}
    for path, owner in model.named_modules():
        for name, parameter in owner._parameters.items():
            if parameter is None or parameter.dim() < 2 or not parameter.numel():
                continue
            if isinstance(owner, QModule) and name in owner.shapes:
                continue
            full = f"{path}.{name}" if path else name
            if id(parameter) in seen:
                exceptions[full] = f"shares {seen[id(parameter)]}"
                continue
            seen[id(parameter)] = full
            if id(parameter) not in embedded:
                left += parameter.numel() * parameter.element_size()
            exceptions[full] = _reason(owner, id(parameter) in embedded)
    return Coverage(quantized, quantized + left, exceptions, compiled(model))


def _reason(owner: nn.Module, embedded: bool) -> str:
    kind = type(owner).__name__
    if embedded:
        return "an embedding, of which a token reads one row: name it in `include` to quantize it"
    if isinstance(owner, QModule):
        return f"{kind} adds or looks it up and quantizes only {', '.join(owner.shapes)}"
    slower = why_in_float(owner)
    if slower is not None:
        return slower
    if qmodule_for(owner) is not None:
        return "left out by `include` or `exclude`"
    return f"no quantized module stands for {kind}: `register_qmodule` adds one"
