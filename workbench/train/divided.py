"""An optimizer whose state is divided among processes, as accelerate takes one."""

from typing import Any

from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.optim import Optimizer


class DividedOptimizer(ZeroRedundancyOptimizer):
    """torch's, which can also tell that it holds no state yet: accelerate asks before any step."""

    def state_dict(self) -> dict[str, Any]:
        """All of the state, where it was consolidated; raises RuntimeError elsewhere, as torch's.

        Before the first step there is none, and nothing to consolidate.
        """
        return super().state_dict() if self.optim.state else Optimizer.state_dict(self)
