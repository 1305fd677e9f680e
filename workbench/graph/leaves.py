"""The values inside nested arguments and outputs, caches left whole."""

from collections.abc import Mapping
from typing import Any

from torch.utils._pytree import tree_leaves


def leaves(values: Any) -> list[Any]:
    """What dicts, lists and tuples (and transformers' outputs) hold, in order.

    A key-value cache stays one leaf. Exporting a model teaches torch to look into caches, for the
    whole process; what a model returns must not depend on whether anything was exported before.
    """
    values = dict(values) if isinstance(values, Mapping) else values
    return tree_leaves(values, is_leaf=lambda v: not isinstance(v, (Mapping, list, tuple)))
