"""Training that ends in a quantized model."""

from workbench.train.qat import TrainingCurve, Watch, finetune, learn_scales

__all__ = ["TrainingCurve", "Watch", "finetune", "learn_scales"]
