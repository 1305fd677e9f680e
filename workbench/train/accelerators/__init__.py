"""Ways to train faster, in the order in which a trainer tries them: cheap and sure ones first."""

from workbench.train.accelerators.attention import Attention
from workbench.train.accelerators.base import Accelerator
from workbench.train.accelerators.bf16 import Bf16
from workbench.train.accelerators.by_length import ByLength
from workbench.train.accelerators.compiled import Compiled
from workbench.train.accelerators.fused import FusedOptimizer
from workbench.train.accelerators.heap import Heap
from workbench.train.accelerators.liger import Liger
from workbench.train.accelerators.merged import Merged
from workbench.train.accelerators.packing import Packing
from workbench.train.accelerators.threads import Threads
from workbench.train.accelerators.trimmed import Trimmed
from workbench.train.accelerators.zero1 import Zero1

accelerators: dict[str, Accelerator] = {
    one.name: one
    for one in (
        Zero1(),
        Liger(),
        FusedOptimizer(),
        Merged(),
        Trimmed(),
        ByLength(),
        Packing(),
        Bf16(),
        Heap(),
        Attention(),
        Threads(),
        Compiled(),
    )
}
"""By name. Each is tried on top of those before it that paid."""

__all__ = ["Accelerator", "accelerators"]
