"""Running the tiny Llama, for the tests beside this file."""

import torch

from workbench.quant import Calibration, QModule, QuantArgs, freeze, quantize

BATCH = {"input_ids": torch.arange(32).view(2, 16)}
TOKEN = QuantArgs(granularity="token", dynamic=True)


def logits(model):
    with torch.no_grad():
        return model(**BATCH).logits


def frozen(model, weights, activations=None, **how):
    quantize(model, weights, activations, **how)
    with torch.no_grad(), Calibration(model):
        model(**BATCH)
    freeze(model)
    return model


def quantized_names(model):
    return [name for name, module in model.named_modules() if isinstance(module, QModule)]
