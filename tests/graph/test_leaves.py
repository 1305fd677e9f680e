"""What a model returns is the same whether or not the process has exported one before."""

import torch
from torch.utils import _pytree as pytree
from transformers.modeling_outputs import BaseModelOutput, CausalLMOutputWithPast

from workbench.graph.leaves import leaves


class Cache:
    """Stands in for a key-value cache; exporting makes torch look into the real ones."""

    def __init__(self, keys: torch.Tensor) -> None:
        self.keys = keys


def test_a_cache_stays_whole_after_an_export() -> None:
    keys, logits = torch.ones(2), torch.zeros(3)
    outputs = CausalLMOutputWithPast(logits=logits, past_key_values=Cache(keys))
    before = leaves(outputs)
    pytree.register_pytree_node(Cache, lambda c: ([c.keys], None), lambda k, _: Cache(*k))
    assert any(leaf is keys for leaf in pytree.tree_leaves(dict(outputs))), "torch looks into it"
    assert [id(leaf) for leaf in leaves(outputs)] == [id(leaf) for leaf in before]


def test_containers_are_looked_into_in_order() -> None:
    a, b, c = torch.ones(1), torch.ones(2), torch.ones(3)
    nested = {"text": BaseModelOutput(last_hidden_state=a), "more": [(b, None)], "last": c}
    assert [leaf is tensor for leaf, tensor in zip(leaves(nested), (a, b, None, c), strict=True)]
