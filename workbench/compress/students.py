"""Make the model that is to learn: a classifier on an encoder, or some layers of a teacher."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from workbench.errors import WorkbenchError
from workbench.graph.blocks import block_chains
from workbench.models.loaded import LoadedModel


def classifier(encoder: LoadedModel, classes: Sequence[str], seed: int = 0) -> LoadedModel:
    """A classifier of texts into `classes` on a copy of `encoder`, its head drawn by `seed`.

    Raises WorkbenchError where there are fewer than two classes, or transformers has no such head.
    """
    from transformers import AutoModelForSequenceClassification

    if len(classes) < 2:
        raise WorkbenchError(f"{len(classes)} classes leave nothing to tell apart; give at least 2")
    config: Any = copy.deepcopy(encoder.model.config)
    config.id2label = dict(enumerate(classes))
    config.label2id = {name: number for number, name in enumerate(classes)}
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model: Any = AutoModelForSequenceClassification.from_config(config)
    except ValueError as error:
        raise WorkbenchError(
            f"transformers has no classifier on {encoder.name}: {error}"
        ) from error
    base = model.base_model
    left = base.load_state_dict(encoder.model.state_dict(), strict=False)
    if left.missing_keys:
        raise WorkbenchError(
            f"{encoder.name} lacks {left.missing_keys[0]}, which a classifier needs"
        )
    return LoadedModel(
        f"{encoder.name} classifier", model.eval(), encoder.tokenizer, "classifier", "", None
    )


def of_layers(teacher: LoadedModel, layers: Sequence[int]) -> LoadedModel:
    """A student with these `layers` of `teacher` (from 0) and all that is around them, copied.

    Raises WorkbenchError where there is no such layer, or no one list of layers.
    """
    model: Any = copy.deepcopy(teacher.model)
    chains = block_chains(model, teacher.text_batches(["a b c d e f g h"])[0])
    if len(chains) != 1:
        raise WorkbenchError(f"{teacher.name} has {len(chains)} stacks of layers; 1 can be thinned")
    count = len(chains[0])
    wrong = [i for i in layers if not 0 <= i < count]
    if wrong or not layers or list(layers) != sorted(set(layers)):
        raise WorkbenchError(
            f"layers {list(layers)} are not some of {teacher.name}'s, in order; it has 0 to "
            f"{count - 1}"
        )
    parent = chains[0][0].rpartition(".")[0]
    blocks = [model.get_submodule(chains[0][i]) for i in layers]
    for place, block in enumerate(blocks):
        for module in block.modules():  # caches of keys and values go by this number
            if isinstance(getattr(module, "layer_idx", None), int):
                module.layer_idx = place  # type: ignore[assignment]
    owner, _, last = parent.rpartition(".")
    setattr(model.get_submodule(owner), last, nn.ModuleList(blocks))
    model.config.num_hidden_layers = len(blocks)
    if getattr(model.config, "layer_types", None):
        model.config.layer_types = [model.config.layer_types[i] for i in layers]
    return LoadedModel(
        f"{len(blocks)} layers of {teacher.name}", model, teacher.tokenizer, teacher.kind, "", None
    )
