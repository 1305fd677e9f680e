"""What a page should draw, from the model's own forward passes; nothing of the session is used."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch

import workbench as wb

# The colours of the heatmap, lowest to highest, as the legend shows them.
COLOURS = np.array(
    [
        [0, 32, 76],
        [35, 62, 108],
        [87, 93, 109],
        [124, 123, 120],
        [165, 156, 116],
        [210, 193, 95],
        [255, 234, 70],
    ]
)


@dataclass(frozen=True)
class Seen:
    """Largest absolute input and weight of each channel, over the calibration data."""

    x: np.ndarray
    w: np.ndarray

    def smoothed(self, alpha: float) -> tuple[np.ndarray, np.ndarray]:
        """SmoothQuant, equation 4: x / s and w s with s = x^alpha / w^(1 - alpha)."""
        s = self.x**alpha / self.w ** (1 - alpha)
        return self.x / s, self.w * s


@cache
def model(name: str) -> "wb.LoadedModel":
    return wb.load(name)


@cache
def seen(name: str, *linears: str) -> Seen:
    """Watch the shared input of `linears` in a plain forward pass over the default calibration."""
    loaded = model(name)
    modules = [loaded.model.get_submodule(linear) for linear in linears]
    top = torch.zeros(modules[0].in_features)
    mask = torch.ones(1)

    def hook(_, arguments) -> None:
        top.copy_(top.maximum(arguments[0].detach()[mask.bool()].abs().amax(0)))

    handle = modules[0].register_forward_pre_hook(hook)
    with torch.no_grad():
        for batch in loaded.batches("calibration", samples=32, length=256, batch_size=8, seed=0):
            mask = batch["attention_mask"]  # padding is no activation
            loaded.model(**batch)
    handle.remove()
    columns = torch.stack([m.weight.detach().abs().amax(0) for m in modules]).amax(0)
    return Seen(top.double().numpy(), columns.double().numpy())


def judged(loaded: "wb.LoadedModel", samples: int = 64) -> list[dict[str, torch.Tensor]]:
    """The pinned evaluation sequences that a comparison is made on; 24 for a point of a sweep."""
    return loaded.batches("evaluation", samples=samples, seed=0)


@cache
def float_perplexity(name: str) -> float:
    """exp of the mean negative log-likelihood over the evaluation text, by its definition."""
    loaded, total, count = model(name), 0.0, 0
    with torch.no_grad():
        for batch in judged(loaded):
            ids = batch["input_ids"]
            logs = loaded.model(**batch).logits[:, :-1].double().log_softmax(-1)
            total -= logs.gather(-1, ids[:, 1:, None]).sum().item()
            count += ids[:, 1:].numel()
    return float(np.exp(total / count))


@cache
def compared(name: str, alpha: float, samples: int = 64) -> "wb.Comparison":
    """The verbs one after another, as a script would call them."""
    loaded = model(name)
    batches = loaded.batches("calibration", samples=32, length=256, batch_size=8, seed=0)
    working = loaded.copy()
    wb.smooth(working, wb.observe(working, batches), alpha=alpha)
    wb.quantize(working, weights=wb.qint8, activations=wb.qint8, exclude=["lm_head"])
    with torch.no_grad(), wb.Calibration(working):
        for batch in batches:
            working(**batch)
    wb.freeze(working)
    return wb.compare(loaded.model, working, judged(loaded, samples))


def colour(share: np.ndarray) -> np.ndarray:
    """Colours [n, 3] of shares 0..1."""
    at = np.linspace(0, 1, len(COLOURS))
    return np.stack([np.interp(np.clip(share, 0, 1), at, COLOURS[:, i]) for i in range(3)], -1)
