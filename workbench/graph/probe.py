"""Find by trial which input channels of a reader scale with which output channels of a maker.

Outputs of makers are multiplied by powers of two, by which floats multiply without rounding, and
the inputs of readers compared with what they were. Each reader then goes on with what it had
before, so one forward tries the makers of a whole model.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from workbench.graph.calls import float_tensor, run
from workbench.graph.matrices import powers_of_two

# A digit of a channel's number, written as an exponent that leaves no channel as it was.
_EXPONENTS = torch.tensor([-4, -3, -2, -1, 1, 2, 3, 4])

Rows = Tensor  # int64 [K]: for each input channel of a reader the maker's channel, -1 for none
Pairs = Mapping[str, str]  # from makers to the one reader, or first of several, of each


class Prober:
    """Runs `model(**batch)` again and again with changed outputs of chosen modules."""

    def __init__(
        self, model: nn.Module, batch: Mapping[str, Any], readers: Mapping[str, Iterable[str]]
    ) -> None:
        """Watch `readers`: the first that reads a tensor, and all that do."""
        self.model = model
        self.batch = batch
        self.together = readers
        self.inputs: dict[str, Tensor] = {}
        with torch.no_grad(), self._reading(self.inputs.setdefault):
            self.outputs = run(model, batch)

    def rows(
        self, pairs: Pairs, widths: Mapping[str, int], chosen: Mapping[str, Tensor]
    ) -> dict[str, Rows]:
        """For each maker, if its `chosen` channels (bool [N]) reach the reader one by one: how.

        `widths` are the makers' numbers of channels. No two makers may have a reader in common.
        """
        found = {maker: torch.zeros_like(self._channels(reader)) for maker, reader in pairs.items()}
        dead = {maker: torch.zeros_like(rows, dtype=torch.bool) for maker, rows in found.items()}
        most = max((widths[maker] for maker in pairs), default=0)
        base = 1
        while found and base < max(most, 2):
            exponents = {m: _digits(widths[m], base) * chosen[m] for m in found}
            for maker, factors in self._factors({m: pairs[m] for m in found}, exponents).items():
                digit = None if factors is None else _read_digits(factors)
                if factors is None or digit is None:
                    del found[maker]
                    continue
                found[maker] = torch.where(
                    (digit < 0) | (found[maker] < 0), -1, found[maker] + digit * base
                )
                dead[maker] = factors.isnan()
            base *= 8
        filled = {m: completed(rows, dead[m], widths[m]) for m, rows in found.items()}
        return self._confirmed(pairs, chosen, filled)

    def _confirmed(
        self, pairs: Pairs, chosen: Mapping[str, Tensor], found: Mapping[str, Rows]
    ) -> dict[str, Rows]:
        """Those of `found` that foretell what other factors do, and change nothing else."""
        factors = {m: powers_of_two(len(chosen[m]), seed=2).where(chosen[m], 1.0) for m in found}
        seen = self._factors(
            {m: pairs[m] for m in found}, {m: f.log2() for m, f in factors.items()}
        )
        kept = {}
        for maker, rows in found.items():
            actual = seen[maker]
            expected = factors[maker].double()[rows.clamp_min(0)].where(rows >= 0, 1.0)
            if actual is not None and torch.all((actual == expected) | actual.isnan()):
                kept[maker] = rows
        return kept

    def _factors(self, pairs: Pairs, exponents: Mapping[str, Tensor]) -> dict[str, Tensor | None]:
        """What each reader's channels were multiplied by, NaN for zeros; None where by nothing."""
        if not pairs:
            return {}
        changed: dict[str, Tensor] = {}

        def scale(name: str, y: Tensor) -> Tensor:
            return y * exponents[name].exp2().to(y)

        with torch.no_grad(), self._changing(pairs, scale), self._reading(changed.__setitem__):
            outputs = run(self.model, self.batch)
        expected = {name for reader in pairs.values() for name in self.together[reader]}
        clean = all(torch.equal(a, b) for a, b in zip(outputs, self.outputs, strict=True)) and all(
            torch.equal(x, self.inputs[name]) for name, x in changed.items() if name not in expected
        )
        if not clean:
            if len(pairs) == 1:
                return dict.fromkeys(pairs)
            parts = ({maker: reader} for maker, reader in pairs.items())
            return {m: f for part in parts for m, f in self._factors(part, exponents).items()}
        return {maker: self._common(reader, changed) for maker, reader in pairs.items()}

    def _common(self, reader: str, changed: Mapping[str, Tensor]) -> Tensor | None:
        """The factors that all that read with `reader` show."""
        common: Tensor | None = None
        for name in self.together[reader]:
            factors = ratio(self.inputs[name], changed[name])
            if factors is None or (common is not None and len(common) != len(factors)):
                return None
            if common is None:
                common = factors
            elif torch.any((common != factors) & ~common.isnan() & ~factors.isnan()):
                return None
            common = common.where(~common.isnan(), factors)
        return common

    def linear_channels(self, pairs: Pairs) -> dict[str, Tensor]:
        """Which channels of each maker reach its reader while all of them are zero: bool [N].

        Values do: attention weighs them, and keys and queries weigh nothing where values are zero.
        """
        zeros: dict[str, Tensor] = {}
        sums: list[Tensor] = []

        def zero(name: str, y: Tensor) -> Tensor:
            zeros[name] = torch.zeros_like(y).requires_grad_()
            return zeros[name] * 1  # a leaf could not be written to

        def listen(name: str, x: Tensor) -> None:
            if name in expected and x.requires_grad:
                sums.append((x * powers_of_two(x.shape[-1], seed=3).to(x)).sum())

        expected = set(pairs.values())
        try:
            with torch.enable_grad(), self._changing(pairs, zero), self._reading(listen):
                run(self.model, self.batch)
                if not sums:
                    return {}
                makers = list(zeros)
                grads = torch.autograd.grad(
                    torch.stack(sums).sum(), [zeros[m] for m in makers], allow_unused=True
                )
        except RuntimeError:
            return {}  # part of the model has no gradient
        return {
            maker: grad.flatten(0, -2).abs().sum(0) > 0
            for maker, grad in zip(makers, grads, strict=True)
            if grad is not None
        }

    def reached(self, pairs: Pairs, chosen: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Which input channels of each maker's reader follow its `chosen` ones: bool [K], by [N].

        No two makers may have a reader in common. None follow where the reader got another shape.
        """
        after: dict[str, Tensor] = {}
        generator = torch.Generator().manual_seed(4)

        def disturb(name: str, y: Tensor) -> Tensor:
            noise = torch.randn(y.shape, generator=generator).to(y) * (1 + 3 * y.std())
            return y + noise * chosen[name].to(y)

        with torch.no_grad(), self._changing(pairs, disturb), self._reading(after.__setitem__):
            run(self.model, self.batch)
        found = {}
        for maker, reader in pairs.items():
            before, now = self.inputs[reader], after[reader]
            moved = before != now if before.shape == now.shape else torch.zeros_like(before) > 0
            found[maker] = moved.flatten(0, -2).any(0)
        return found

    def _channels(self, reader: str) -> Tensor:
        return torch.arange(self.inputs[reader].shape[-1])

    @contextmanager
    def _changing(
        self, makers: Iterable[str], change: Callable[[str, Tensor], Tensor]
    ) -> Iterator[None]:
        """Put `change(name, output)` in the place of the makers' outputs."""

        def hook(name: str) -> Callable[..., Any]:
            def replace(_: nn.Module, _args: Any, output: Any) -> Any:
                return change(name, output) if isinstance(output, Tensor) else output

            return replace

        handles = [self.model.get_submodule(m).register_forward_hook(hook(m)) for m in makers]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    @contextmanager
    def _reading(self, listen: Callable[[str, Tensor], Any]) -> Iterator[None]:
        """Call `listen(name, input)` for each reader, which then gets the input it had at first."""

        def hook(name: str) -> Callable[..., Any]:
            def read(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
                key = None if args else next(iter(kwargs))
                x = float_tensor(args[0] if key is None else kwargs[key])
                if x is None:
                    return None
                listen(name, x)
                before = self.inputs[name]
                if before is x or before.shape != x.shape:
                    return None
                return (
                    ((before, *args[1:]), kwargs) if key is None else (args, kwargs | {key: before})
                )

            return read

        handles = [
            self.model.get_submodule(name).register_forward_pre_hook(hook(name), with_kwargs=True)
            for readers in self.together.values()
            for name in readers
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def ratio(before: Tensor, after: Tensor) -> Tensor | None:
    """The factor of each channel from one [..., K] to another; NaN for zeros, None without one."""
    old, new = before.flatten(0, -2).double(), after.flatten(0, -2).double()
    place = old.abs().argmax(0, keepdim=True)
    factors = (new.gather(0, place) / old.gather(0, place))[0]
    held = torch.equal(old * factors.nan_to_num(1), new)
    return factors if held and not torch.all((factors == 1) | factors.isnan()) else None


def _digits(count: int, base: int) -> Tensor:
    """The exponents that write one digit of the numbers 0 to `count` - 1."""
    return _EXPONENTS[torch.arange(count) // base % len(_EXPONENTS)].float()


def _read_digits(factors: Tensor) -> Tensor | None:
    """The digits that factors [K] stand for, -1 where left alone or dead; None for nonsense."""
    matches = factors.unsqueeze(1) == _EXPONENTS.double().exp2()
    if torch.any(~matches.any(1) & ~factors.isnan() & (factors != 1)):
        return None
    return torch.where(matches.any(1), matches.int().argmax(1), -1)


def completed(rows: Rows, dead: Tensor, width: int) -> Rows:
    """Fill in channels that were zero in the trial where all others show the same shift."""
    channels = torch.arange(len(rows))
    shift = (rows - channels)[~dead]
    if not dead.any() or len(shift) == 0 or not torch.all(shift == shift[0]):
        return rows
    filled = channels + shift[0]
    return filled if filled[0] >= 0 and filled[-1] < width else rows
