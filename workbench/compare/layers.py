"""The linear layers of a model, float or quantized, told by what they expose."""

from torch import nn


def linears(model: nn.Module) -> dict[str, nn.Module]:
    """Name every module that maps `in_features` to `out_features`, in order of definition."""
    return {
        name: module
        for name, module in model.named_modules()
        if hasattr(module, "in_features") and hasattr(module, "out_features")
    }


def head(model: nn.Module) -> nn.Module | None:
    """Return the layer that turns hidden states into logits, if the model has one."""
    find = getattr(model, "get_output_embeddings", None)
    return find() if callable(find) else None
