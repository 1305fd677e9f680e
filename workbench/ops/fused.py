"""The ops of compiled models (`workbench.compile`), whose only life is the native one."""

from workbench.ops import attention, native, rotary, rows, shared  # noqa: F401 - they define the ops

FUSED = {
    "linears_native": "layers that read one input, quantized once, and the functions behind them",
    "rows_native": "the norm or product before such layers, computed as it is quantized",
    "attention_native": "softmax attention, where projections left queries, keys and values",
    "rotary_native": "rotary embeddings of queries and keys",
}


def report() -> list[tuple[str, bool, str]]:
    """List them as `(name, available, reason)`, with the level of the kernels in use."""
    found = native.status()
    return [
        (name, found.problem is None, found.problem or f"{what} ({found.level})")
        for name, what in FUSED.items()
    ]
