"""Training that ends in a quantized model."""

from workbench.train.qat import TrainingCurve, finetune, learn_scales

__all__ = ["TrainingCurve", "finetune", "learn_scales"]
