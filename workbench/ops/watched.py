"""Whether torch has to see an op, or may be passed by: its dispatcher costs microseconds a call."""

import torch
from torch import Tensor


def is_watched(x: Tensor, *others: Tensor | None) -> bool:
    """Whether an op on `x` is differentiated, traced, profiled or otherwise seen by torch.

    Gradients may be asked for `x` and `others`.
    """
    return (
        torch.compiler.is_compiling()  # first, since the compiler follows what comes after
        or type(x) is not Tensor
        or (
            torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (x, *others))
        )
        or torch._C._len_torch_dispatch_stack() > 0
        or torch._C._len_torch_function_stack() > 0
        or torch._C._functorch.peek_interpreter_stack() is not None
        or torch._C._is_tracing()
        or torch._C._autograd._profiler_enabled()
    )
