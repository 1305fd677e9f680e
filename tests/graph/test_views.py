"""Which copies views stand for: as transformers makes masks, and nothing that looks alike."""

import operator

import torch
from torch import fx

from workbench.graph.fuse.views import View, view_of


def mask_graph():
    """`m & x[i, j]`, its nodes and values for them."""
    graph = fx.Graph()
    x, i, j, m = (graph.placeholder(name) for name in "xijm")
    picked = graph.call_function(operator.getitem, (x, (i, j)))
    both = graph.call_function(operator.and_, (m, picked))
    env = {
        x: torch.rand(2, 5, generator=torch.Generator().manual_seed(0)) < 0.5,
        i: torch.arange(2)[:, None, None, None],
        j: torch.arange(5),
        m: torch.ones(1, 1, 3, 1, dtype=torch.bool),
    }
    return (x, i, j, m, picked, both), env


def computed(nodes, env):
    x, i, j, m, picked, both = nodes
    env[picked] = env[x][env[i], env[j]]
    env[both] = env[m] & env[picked]
    return [view_of(node, env[node], {i, j, m}, env) for node in (picked, both)]


def test_all_in_order_and_all_that_is_true_are_views():
    nodes, env = mask_graph()
    views = computed(nodes, env)
    assert views == [View("reshape", nodes[0]), View("expand", nodes[4])]
    for node, view in zip(nodes[4:], views, strict=True):
        found = getattr(env[view.source], view.method)(env[node].shape)
        assert torch.equal(found, env[node])


def test_another_order_or_one_that_is_false_are_none():
    nodes, env = mask_graph()
    env[nodes[2]] = torch.arange(5).flip(0)
    env[nodes[3]][0, 0, 1] = False
    assert computed(nodes, env) == [None, None]
    nodes, env = mask_graph()
    env[nodes[2]] = torch.arange(4)
    assert computed(nodes, env)[0] is None


def test_what_is_not_known_before_or_is_no_mask_is_none():
    nodes, env = mask_graph()
    computed(nodes, env)
    picked, both = nodes[4:]
    assert view_of(picked, env[picked], set(), env) is None
    assert view_of(both, env[both], set(), env) is None
    env[picked] = env[picked].long()
    assert view_of(both, env[both], {nodes[3]}, env) is None
