"""Sample what goes into linears, and the gradients that come back to them."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from workbench.graph.calls import output_leaves

DRAWS = 2  # of labels for each batch: more make predictions less noisy, and cost a backward each
CHUNK = 2**22  # numbers of weight gradients at a time
Task = Callable[[Any, Mapping[str, Any]], Tensor]
_Drawn = tuple[Tensor, Tensor, tuple[int, int]]


@dataclass
class Sample:
    """Some of the sequences that a layer saw, a part for each batch, in bfloat16.

    Inputs x [S, T, in], zero where padded, `weights` [S] of how many sequences each stands for, and
    gradients [S, T, out] of two losses, of the first as often as labels were drawn. Where inputs
    have no dimension for tokens, each is a sequence of one. Layers that read one tensor share x.
    """

    x: list[Tensor] = field(default_factory=list)
    weights: list[Tensor] = field(default_factory=list)
    output: list[list[Tensor]] = field(default_factory=list)
    task: list[list[Tensor]] = field(default_factory=list)

    def tokens(self, most: int) -> Tensor:
        """At most so many of the inputs, evenly spread, float32 [n, in]."""
        rows = torch.cat([x.flatten(0, 1) for x in self.x])
        return rows[:: -(-len(rows) // most)].float()


class Probe:
    """Samples of the layers `modules` of `model`, about `tokens` of each over so many `batches`.

    The first loss is the log likelihood of labels y drawn from the model's own distribution, summed
    over positions, or where it has no logits `sum(v * output)` with normal v. For a change dY of a
    layer's output `sum(g dY)^2`, summed over a sequence, then averages over the draws to the length
    of the output's change: in the metric of the Fisher information in the one case, as it is in the
    other. The second loss is the task, if there is one.
    """

    def __init__(
        self,
        model: nn.Module,
        modules: Mapping[str, nn.Module],
        tokens: int,
        batches: int,
        seed: int,
        task: Task | None,
    ) -> None:
        self.model, self.modules, self.task = model, modules, task
        self.each = -(-tokens // batches)
        self.generator = torch.Generator().manual_seed(seed)
        self.samples = {name: Sample() for name in modules}
        self.measure = ""
        self.positions = self.batches = 0
        self.power = 0.0
        self._mask: Tensor | None = None
        self._for_task = False
        self._last: tuple[Tensor, int, _Drawn] | None = None

    def damages(self, name: str, errors: Tensor) -> Tensor:
        """What `errors` [C, out, in] in a weight do, each alone: KL for each position, or the
        output's squared error relative to its power, float64 [C]."""
        sample, found = self.samples[name], errors.new_zeros(len(errors), dtype=torch.float64)
        for x, weights, gradients in zip(sample.x, sample.weights, sample.output, strict=True):
            for gradient in gradients:
                changes = _changes(errors, gradient, x).double()
                found += changes.square() @ weights / len(gradients)
        return found / (2 * self.positions if self.measure == "kl" else self.power)

    def rises(self, name: str, errors: Tensor) -> Tensor:
        """By how much each raises the task's loss, to first order, in the mean over batches."""
        sample, found = self.samples[name], errors.new_zeros(len(errors), dtype=torch.float64)
        for x, weights, gradients in zip(sample.x, sample.weights, sample.task, strict=True):
            for gradient in gradients:
                found += _changes(errors, gradient, x).double() @ weights
        return found / self.batches

    def take(self, batch: Mapping[str, Any]) -> None:
        """One forward and one backward, or two with a task."""
        mask = batch.get("attention_mask")
        self._mask = mask.bool() if isinstance(mask, Tensor) else None
        with self._watching(), torch.enable_grad():
            outputs = self.model(**batch)
            rows = self._rows(outputs)
            self._for_task = False
            for _ in range(DRAWS):
                self._loss(rows).backward(retain_graph=True)  # type: ignore[no-untyped-call]
            if self.task is not None:
                self._for_task = True
                self.task(outputs, batch).backward()  # type: ignore[no-untyped-call]
        self.batches += 1
        self._last = None

    def _rows(self, outputs: Any) -> Tensor:
        """The logits, or else the first output, as float32 [positions, C] without padding."""
        found = getattr(outputs, "logits", None)
        self.measure = "kl" if found is not None else "relative error"
        if found is None:
            found = output_leaves(outputs)[0]
        kept = self._mask is not None and found.shape[:-1] == self._mask.shape
        rows = (found[self._mask] if kept else found.reshape(-1, found.shape[-1])).float()
        self.positions += len(rows)
        self.power += float(rows.detach().double().square().sum())
        return rows

    def _loss(self, rows: Tensor) -> Tensor:
        if self.measure == "kl":
            chances = rows.detach().softmax(-1).cpu()
            drawn = torch.multinomial(chances, 1, generator=self.generator).to(rows.device)
            return rows.log_softmax(-1).gather(-1, drawn).sum()
        return (rows * torch.randn(rows.shape, generator=self.generator).to(rows.device)).sum()

    @contextmanager
    def _watching(self) -> Iterator[None]:
        """Hooks on the layers; parameters need no gradients of their own meanwhile."""
        was_training = self.model.training
        asked = [p for p in self.model.parameters() if p.requires_grad]
        handles = [
            module.register_forward_hook(self._hook(self.samples[name]), with_kwargs=True)
            for name, module in self.modules.items()
        ]
        self.model.eval()
        for parameter in asked:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
            for parameter in asked:
                parameter.requires_grad_(True)
            self.model.train(was_training)

    def _hook(self, sample: Sample) -> Callable[..., Tensor]:
        def hook(
            _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor
        ) -> Tensor:
            x, chosen, shape = self._draw(next(iter((*args, *kwargs.values()))))
            gradients: list[Tensor] = []
            of_task: list[Tensor] = []
            sample.x.append(x)
            sample.weights.append(torch.full((len(x),), shape[0] / max(len(x), 1)).double())
            sample.output.append(gradients)
            sample.task.append(of_task)
            if not output.requires_grad:
                output = output.detach().requires_grad_() * 1  # no leaf: it may be changed in place

            def back(gradient: Tensor) -> None:
                kept = gradient.reshape(*shape, gradient.shape[-1])[chosen].bfloat16()
                (of_task if self._for_task else gradients).append(kept)

            output.register_hook(back)
            return output

        return hook

    def _draw(self, given: Tensor) -> _Drawn:
        """Some sequences of a layer's input, which they are, and how many of what length it has."""
        # Readers of one tensor follow each other; to keep more than the last would take memory.
        if self._last is not None and given is self._last[0] and given._version == self._last[1]:
            return self._last[2]
        x = given.detach()
        if self._mask is not None and x.shape[:-1] == self._mask.shape:
            x = x * self._mask.unsqueeze(-1)
        x = x.flatten(1, -2) if x.dim() > 2 else x.unsqueeze(1)
        wanted = -(-self.each // x.shape[1])
        chosen = torch.randperm(len(x), generator=self.generator)[:wanted].to(x.device)
        found = x[chosen].bfloat16(), chosen, (x.shape[0], x.shape[1])
        self._last = given, given._version, found
        return found


def bytes_a_token(modules: Mapping[str, nn.Module]) -> int:
    """What samples of one token take in all of these linears, whichever way their weights lie."""
    weights = [m._parameters["weight"] for m in modules.values()]
    shapes = [weight.shape for weight in weights if weight is not None]
    return sum(2 * (min(shape) + DRAWS * max(shape)) for shape in shapes)


def _changes(errors: Tensor, gradient: Tensor, x: Tensor) -> Tensor:
    """By how much a loss changes with each of `errors`, to first order, for each sequence: [C, S].

    Summed over a sequence `g dY` is the product of the error with the sequence's weight gradient,
    which all errors share.
    """
    x, gradient = x.float(), gradient.float().transpose(1, 2)
    found = errors.new_zeros(len(errors), len(x))
    rows = max(1, CHUNK // max(len(x) * x.shape[-1], 1))
    for some, part in zip(errors.split(rows, 1), gradient.split(rows, 1), strict=True):
        found += some.flatten(1) @ (part @ x).flatten(1).T
    return found
