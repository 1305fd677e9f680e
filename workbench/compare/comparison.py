"""A model beside its original on the same data: logits, embeddings, and layer by layer."""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn
from torch.nn import functional as F

from workbench import metrics
from workbench.compare.layers import linears
from workbench.compare.quality import exponential, predictions
from workbench.errors import WorkbenchError
from workbench.progress import track


class LayerError(BaseModel):
    """Signal to quantization noise of one linear's output, in decibels; infinite where equal."""

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="strings")  # JSON has no infinity
    name: str
    sqnr_db: float


class Comparison(BaseModel):
    """What `compare` found: of a language model, of an encoder, or of a classifier."""

    model_config = ConfigDict(frozen=True)
    loss_reference: float | None = None
    loss: float | None = None
    perplexity_reference: float | None = None
    perplexity: float | None = None
    kl: float | None = None  # nats per token, from the reference's distribution
    agreement: float | None = None  # share of tokens (or texts) with the same most likely class
    tokens: int | None = None

    cosine_mean: float | None = None
    cosine_min: float | None = None
    neighbour_agreement: float | None = None
    ranking: float | None = None  # rank correlation of each sentence's similarity to the others
    sentences: int | None = None  # or texts that a classifier judged

    layers: list[LayerError]

    @property
    def divergence(self) -> float:
        """Distance from the reference: `kl`, or 1 - `cosine_mean` for an encoder."""
        if self.kl is not None:
            return self.kl
        assert self.cosine_mean is not None
        return 1 - self.cosine_mean

    def of_reference(self) -> "Comparison":
        """What comparing the reference with itself would find, without running it once more."""
        known = {
            "loss": self.loss_reference,
            "perplexity": self.perplexity_reference,
            "kl": None if self.kl is None else 0.0,
            "layers": [layer.model_copy(update={"sqnr_db": math.inf}) for layer in self.layers],
        }
        ones = ("agreement", "cosine_mean", "cosine_min", "neighbour_agreement", "ranking")
        known |= {name: 1.0 for name in ones if getattr(self, name) is not None}
        return self.model_copy(update=known)


@torch.inference_mode()
def compare(
    reference: nn.Module, candidate: nn.Module, batches: Iterable[dict[str, Tensor]]
) -> Comparison:
    """Run both models over `batches` and measure how far `candidate` is from `reference`.

    A language model (its output has `logits`) is judged by its loss, the divergence of its logits
    and the agreement of its top choice; an encoder (`last_hidden_state`) by the cosine and the
    nearest neighbours of its mean-pooled embeddings; a classifier (`logits` of one row a text) by
    the divergence of its classes and the agreement of its choice. The error of a layer is measured
    on every linear that has the same name in both, each on the inputs of its own model: it holds
    what the layers before have added. Tokens under padding count nowhere.

    Raises `WorkbenchError` where there is nothing to compare.
    """
    layers = _LayerErrors(reference, candidate)
    tally: _LanguageTally | _EncoderTally | _ClassifierTally | None = None
    for batch in track(batches, "compare"):
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        with layers.recording(batch.get("attention_mask")):
            expected, found = reference(**inputs), candidate(**inputs)
        if tally is None:
            tally = _tally_for(expected)
        tally.add(batch, expected, found)
    if tally is None:
        raise WorkbenchError("There are no batches to compare on; give at least one.")
    return Comparison(**tally.result(), layers=layers.result())


def _tally_for(output: object) -> "_LanguageTally | _EncoderTally | _ClassifierTally":
    logits = getattr(output, "logits", None)
    if logits is not None:
        return _LanguageTally() if logits.dim() == 3 else _ClassifierTally()
    if getattr(output, "last_hidden_state", None) is not None:
        return _EncoderTally()
    raise WorkbenchError(
        f"The model returned a {type(output).__name__} with neither logits nor last_hidden_state; "
        "compare a causal language model, an encoder or a classifier."
    )


@dataclass
class _LanguageTally:
    """Sums over tokens, so that a short batch weighs no more than its tokens."""

    loss_reference: float = 0.0
    loss: float = 0.0
    kl: float = 0.0
    agreed: int = 0
    tokens: int = 0

    def add(self, batch: dict[str, Tensor], expected: Any, found: Any) -> None:
        p, targets = predictions(batch, expected.logits)
        q, _ = predictions(batch, found.logits)
        self.loss_reference += F.cross_entropy(p, targets, reduction="sum").item()
        self.loss += F.cross_entropy(q, targets, reduction="sum").item()
        self.kl += metrics.kl_divergence(p, q).sum().item()
        self.agreed += int(metrics.top1_agreement(p, q).sum())
        self.tokens += targets.numel()

    def result(self) -> dict[str, Any]:
        if self.tokens == 0:
            raise WorkbenchError(
                "The batches hold no token to predict; give sequences of at least two tokens."
            )
        loss_reference, loss = self.loss_reference / self.tokens, self.loss / self.tokens
        return {
            "loss_reference": loss_reference,
            "loss": loss,
            "perplexity_reference": exponential(loss_reference),
            "perplexity": exponential(loss),
            "kl": self.kl / self.tokens,
            "agreement": self.agreed / self.tokens,
            "tokens": self.tokens,
        }


@dataclass
class _EncoderTally:
    """The embeddings of all sentences, because neighbours are sought among all of them."""

    expected: list[Tensor] = field(default_factory=list)
    found: list[Tensor] = field(default_factory=list)

    def add(self, batch: dict[str, Tensor], expected: Any, found: Any) -> None:
        mask = batch.get("attention_mask")
        self.expected.append(metrics.mean_pool(expected.last_hidden_state, mask))
        self.found.append(metrics.mean_pool(found.last_hidden_state, mask))

    def result(self) -> dict[str, Any]:
        expected, found = torch.cat(self.expected), torch.cat(self.found)
        cosines = metrics.cosine(expected, found)
        return {
            "cosine_mean": float(cosines.mean()),
            "cosine_min": float(cosines.min()),
            "neighbour_agreement": metrics.neighbour_agreement(expected, found),
            "ranking": metrics.ranking_agreement(expected, found) if len(found) > 2 else None,
            "sentences": len(expected),
        }


@dataclass
class _ClassifierTally:
    """Sums over texts."""

    kl: float = 0.0
    agreed: int = 0
    texts: int = 0

    def add(self, _batch: dict[str, Tensor], expected: Any, found: Any) -> None:
        self.kl += metrics.kl_divergence(expected.logits, found.logits).sum().item()
        self.agreed += int(metrics.top1_agreement(expected.logits, found.logits).sum())
        self.texts += len(expected.logits)

    def result(self) -> dict[str, Any]:
        return {
            "kl": self.kl / self.texts,
            "agreement": self.agreed / self.texts,
            "sentences": self.texts,
        }


class _LayerErrors:
    """Energy of each linear's output and of its deviation, summed over batches in float64."""

    def __init__(self, reference: nn.Module, candidate: nn.Module) -> None:
        expected, found = linears(reference), linears(candidate)
        self.pairs = {
            name: (expected[name], found[name])
            for name in expected
            if name in found and not found[name].__dict__.get("output_rotated")
        }
        self.signal = dict.fromkeys(self.pairs, 0.0)
        self.noise = dict.fromkeys(self.pairs, 0.0)
        self.waiting: dict[str, Tensor] = {}

    @contextmanager
    def recording(self, mask: Tensor | None) -> Iterator[None]:
        """Compare the outputs of the two forwards inside the block, the reference's first."""
        handles = []
        try:
            for name, (expected, found) in self.pairs.items():
                handles.append(expected.register_forward_hook(partial(self._keep, name, mask)))
                handles.append(found.register_forward_hook(partial(self._compare, name, mask)))
            yield
        finally:
            for handle in handles:
                handle.remove()
            self.waiting.clear()

    def _keep(
        self, name: str, mask: Tensor | None, _module: nn.Module, _inputs: object, output: Tensor
    ) -> None:
        self.waiting[name] = _without_padding(output, mask)

    def _compare(
        self, name: str, mask: Tensor | None, module: nn.Module, _inputs: object, output: Tensor
    ) -> None:
        expected = self.waiting.pop(name, None)
        if expected is None:  # the reference went another way, as a router may
            return
        found = _without_padding(output, mask)
        factors = module.__dict__.get("output_factors")  # that smoothing put on its channels
        deviation = expected - (found if factors is None else found / factors.to(found.device))
        self.signal[name] += expected.square().sum(dtype=torch.float64).item()
        self.noise[name] += deviation.square().sum(dtype=torch.float64).item()

    def result(self) -> list[LayerError]:
        return [
            LayerError(name=name, sqnr_db=_decibels(self.signal[name], self.noise[name]))
            for name in self.pairs
            if self.signal[name] > 0
        ]


def _without_padding(output: Tensor, mask: Tensor | None) -> Tensor:
    if mask is not None and output.shape[: mask.dim()] == mask.shape and not mask.all():
        output = output[mask.bool()]
    return output.float()


def _decibels(signal: float, noise: float) -> float:
    return math.inf if noise == 0 else 10 * math.log10(signal / noise)
