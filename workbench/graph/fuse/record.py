"""Run a fused graph once and write its native calls down, to be repeated with other inputs.

Shapes, and so all arguments of native calls but pointers, follow from the graph's integer inputs.
What the calls make lies in an arena from then on; what they read that is made elsewhere, weights
among it, is where each run finds it. Views of what they made need no step at all, nor do integers
that follow from sizes and buffers alone, such as positions.
"""

import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.node import map_arg
from torch.utils._pytree import tree_leaves

from workbench.graph.fuse.arena import Block, Memory, lay_out, moved
from workbench.graph.fuse.match import without_dropout
from workbench.graph.fuse.views import View, view_of
from workbench.ops import native
from workbench.ops.program import Program, pointers_of

MOST = 2**26  # bytes made in a run: beyond, kernels take the time and not what calls them
VIEWS = {
    "contiguous", "expand", "flatten", "permute", "reshape", "squeeze", "transpose", "unflatten",
    "unsqueeze", "view", operator.getitem,
}  # fmt: skip

CONSTANTS = VIEWS | {  # ops that give the same for the same, and write to nothing
    "new_ones", "new_zeros", "to", torch.arange, torch.full, torch.gather, torch.ones, torch.zeros,
    operator.add, operator.and_, operator.ge, operator.gt, operator.le, operator.lt, operator.mul,
    operator.sub,
}  # fmt: skip


@dataclass
class Repeat:
    """A recorded graph, for one call at a time.

    `fixed` are the inputs that it took for constants: places, addresses, versions.
    """

    run: Callable[..., Any]
    fixed: list[tuple[int, int, int]]

    def holds(self, inputs: tuple[Any, ...]) -> bool:
        """Whether those are what they were."""
        return all(
            inputs[at].data_ptr() == address and inputs[at]._version == version
            for at, address, version in self.fixed
        )


def record(
    graph: fx.GraphModule,
    natives: set[Any],
    inputs: tuple[Any, ...],
    memory: Memory,
    *,
    fold: bool = True,
) -> tuple[Any, Repeat | None]:
    """What `graph` gives for `inputs`, and what gives it again; None where that would not pay.

    `natives` are the functions that call the kernels; what they make will lie in `memory`. With
    `fold`, integers among weights are taken for constants.
    """
    # Tensors of inference mode have no versions that would tell.
    recorder = _Recorder(graph, natives, fold and not torch.is_inference_mode_enabled())
    result = recorder.run(*inputs)
    run = recorder.finish(memory)
    return result, None if run is None else Repeat(run, recorder.fixed())


class _Segment:
    """Calls that follow each other with nothing else between them."""

    def __init__(self) -> None:
        self.program = Program()
        self.inner: list[tuple[int, int, int]] = []  # place, storage that is made, offset
        self.outer: list[tuple[int, fx.Node]] = []  # place, what lies there

    def finish(self, starts: dict[int, int]) -> Callable[..., None]:
        """What runs it on the values of `outer`, with storages where they are from now on."""
        program = self.program
        for place, storage, offset in self.inner:
            program.point(place, starts[storage] + offset)
        program.prepare()
        places, last = [place for place, _ in self.outer], [0] * len(self.outer)

        def run(*values: Tensor) -> None:
            found = [value.data_ptr() for value in values]
            if found != last:
                for place, pointer, before in zip(places, found, last, strict=True):
                    if pointer != before:
                        program.point(place, pointer)
                last[:] = found
            program.run()

        return run


class _Recorder(fx.Interpreter):
    def __init__(self, graph: fx.GraphModule, natives: set[Any], fold: bool) -> None:
        super().__init__(graph)
        self.fold = fold
        self.constants: dict[fx.Node, int] = {}  # inputs too, and how often they were written to
        self.garbage_collect_values = False  # or an address would stand for several values
        self.natives = natives
        self.order = {node: index for index, node in enumerate(graph.graph.nodes)}
        self.blocks: dict[int, Block] = {}  # by the address of what the calls made
        self.steps: list[fx.Node | _Segment] = []  # what a run does
        self.views: dict[fx.Node, View] = {}  # instead of what a step copies
        self.total = 0

    def run_node(self, n: fx.Node) -> Any:
        if self.total > MOST:
            self.garbage_collect_values = True  # from here on it only computes
            return super().run_node(n)
        with native.recording() as calls:
            result = super().run_node(n)
        constant = self._is_constant(n, result)
        view = None if constant else view_of(n, result, self.constants, self.env)
        if view is not None and self._is_never_written(n):
            self.views[n] = view
            result = getattr(self.env[view.source], view.method)(result.shape)
        if constant:
            self.constants[n] = result._version if isinstance(result, Tensor) else 0
        if n.op == "placeholder" or not (constant or self._is_step(n, result, calls)):
            self.steps.append(n)
        self._keep(n, result)
        return result

    def _is_constant(self, node: fx.Node, result: Any) -> bool:
        """Whether `node` is a size or of integers among the weights, or follows from those."""
        is_tensor = isinstance(result, Tensor)
        if not self.fold or (is_tensor and (result.is_inference() or result.is_floating_point())):
            return False
        if node.op == "placeholder":
            told = node.meta.get("tensor_dict", {}).get("_dynamo_static_input_type")
            return isinstance(result, int) or told == "unguarded"
        return (
            is_tensor
            and node.target in CONSTANTS
            and all(one in self.constants for one in node.all_input_nodes)
        )

    def fixed(self) -> list[tuple[int, int, int]]:
        """The inputs of which constants were made, as `Repeat` has them."""
        inputs = [node for node in self.order if node.op == "placeholder"]
        used = {one for node in self.constants for one in node.all_input_nodes}
        return [
            (place, self.env[node].data_ptr(), self.constants[node])
            for place, node in enumerate(inputs)
            if node in used and isinstance(self.env[node], Tensor)
        ]

    def _is_untouched(self, node: fx.Node) -> bool:
        value = self.env[node]
        return not isinstance(value, Tensor) or value._version == self.constants[node]

    def _is_only_read(self, node: fx.Node) -> bool:
        """Whether kernels alone read what `node` gives, or what follows from it."""
        return all(
            user.target in self.natives or (user.target in CONSTANTS and self._is_only_read(user))
            for user in node.users
        )

    def _is_never_written(self, node: fx.Node) -> bool:
        """Whether nothing writes to what `node` gives, nor to what it may be a view of."""
        made_of = node.all_input_nodes if node.target in CONSTANTS else []
        return self._is_only_read(node) and all(
            one in self.constants or self._is_never_written(one) for one in made_of
        )

    def _is_step(self, node: fx.Node, result: Any, calls: native.Written) -> bool:
        """Whether a run needs nothing but the calls that were added for `node`."""
        if node.target in self.natives:
            return self._add(node, result, calls)
        is_view = node.target in VIEWS or without_dropout(node) is not node
        return is_view and self._is_made(result)

    def _is_made(self, value: Any) -> bool:
        return isinstance(value, Tensor) and _storage(value) in self.blocks

    def _add(self, node: fx.Node, result: Any, calls: native.Written) -> bool:
        """Write down the calls of `node`; False where they read what nothing keeps."""
        made = {one.data_ptr(): one for one in _tensors(result)}
        whole = isinstance(result, Tensor) or all(u.target is operator.getitem for u in node.users)
        if not made or not whole:
            return False
        values = {source: self.env[source] for source in node.all_input_nodes}
        read = {x.data_ptr(): source for source, x in values.items() if isinstance(x, Tensor)}
        found = [list(pointers_of(*one)) for one in calls]
        if any(pointer not in made and pointer not in read for one in found for _, pointer in one):
            return False
        for one in made.values():
            size = one.untyped_storage().nbytes()
            self.blocks[_storage(one)] = Block(size, self.order[node], self.order[node])
            self.total += size
        segment = self.steps[-1] if self.steps else None
        if not isinstance(segment, _Segment):
            segment = _Segment()
            self.steps.append(segment)
        for call, places in zip(calls, found, strict=True):
            start = len(segment.program.memory)
            segment.program.add(*call)
            for place, pointer in places:
                self._point(segment, start + place, pointer, made, read)
        return True

    def _point(
        self,
        segment: _Segment,
        place: int,
        pointer: int,
        made: dict[int, Tensor],
        read: dict[int, fx.Node],
    ) -> None:
        value = made[pointer] if pointer in made else self.env[read[pointer]]
        storage = _storage(value)
        if storage in self.blocks:
            segment.inner.append((place, storage, pointer - storage))
        else:
            segment.outer.append((place, read[pointer]))

    def _keep(self, node: fx.Node, result: Any) -> None:
        """What `node` gave, a view perhaps, is needed by all that read it."""
        last = max((self.order[user] for user in node.users), default=self.order[node])
        for one in _tensors(result):
            block = self.blocks.get(_storage(one))
            if block is not None:
                block.last = max(block.last, last)

    @torch.inference_mode(False)  # runs may write to what is made here, in that mode or not
    def finish(self, memory: Memory) -> Callable[..., Any] | None:
        """The graph of steps, compiled; None where nothing was, or could be, recorded."""
        segments = [step for step in self.steps if isinstance(step, _Segment)]
        if self.total > MOST or not segments or not all(map(self._is_untouched, self.constants)):
            return None
        arena = memory.of(lay_out(list(self.blocks.values())))
        starts = {one: arena.data_ptr() + block.start for one, block in self.blocks.items()}
        made = (self.env[node] for node in self.constants if node.op != "placeholder")
        constants = {_storage(value) for value in made}
        graph, copies, held = fx.Graph(), dict[fx.Node, fx.Node](), dict[str, Any]()

        def copied(node: fx.Node) -> fx.Node:
            """`node` in the new graph, or the tensor that stands for it."""
            if node not in copies:
                value, constant = self.env[node], node in self.constants
                place = None if constant else self.blocks[_storage(value)]
                held[node.name] = value if place is None else moved(value, arena, place)
                copies[node] = graph.get_attr(node.name)
            return copies[node]

        def given(node: fx.Node) -> fx.Node:
            """The same for what leaves the graph, which nobody else may write to."""
            value = self.env[node]
            own = isinstance(value, Tensor) and _storage(value) in {*self.blocks, *constants}
            return graph.call_method("clone", (copied(node),)) if own else copied(node)

        for step in self.steps:
            if isinstance(step, _Segment):
                sources = tuple(copied(source) for _, source in step.outer)
                graph.call_function(step.finish(starts), sources)
            elif step.op == "output":
                graph.output(map_arg(step.args[0], given))
            elif step in self.views:
                view = self.views[step]
                shape = self.env[step].shape
                copies[step] = graph.call_method(view.method, (copied(view.source), shape))
            else:
                copies[step] = graph.node_copy(step, copied)
        for node in graph.nodes:
            if node.op in ("get_attr", "call_module") and node.target not in held:
                held[node.target] = operator.attrgetter(node.target)(self.module)
        repeat = fx.GraphModule(held, graph)
        repeat.arena = arena
        for name in held.keys() & repeat._buffers.keys():  # attributes are found sooner
            vars(repeat)[name] = repeat._buffers.pop(name)
        return repeat.forward  # type: ignore[no-any-return]


def _tensors(value: Any) -> Iterator[Tensor]:
    return (one for one in tree_leaves(value) if isinstance(one, Tensor) and one.numel())


def _storage(value: Tensor) -> int:
    return value.untyped_storage().data_ptr()
