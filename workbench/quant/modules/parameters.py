"""Modules that multiply by parameters of their own: experts in one tensor, packed attention."""

from typing import Any, ClassVar

from torch import Tensor, nn

from workbench.quant.calibration import active_calibration
from workbench.quant.modules.base import QModule
from workbench.quant.modules.registry import register_qmodule


class QParameters(QModule):
    """A module, of any class, that reads its weights as attributes and finds them quantized.

    Its inputs are not: they are multiplied inside, where no slot reaches.
    """

    rounds_activations = False

    @classmethod
    def bases_for(cls, float_class: type[nn.Module]) -> tuple[type, ...]:
        return (float_class, cls)

    def __getattr__(self, name: str) -> Tensor | nn.Module:
        own = self.__dict__
        unfrozen = name in own.get("shapes", ()) and name in own["_parameters"]
        if unfrozen and active_calibration(self) is None:
            return self.fake_quantize_weight(name)
        return super().__getattr__(name)  # type: ignore[no-any-return]


class QExperts(QParameters):
    """The experts of a mixture, each weight one tensor [experts, out, in]."""

    lead: ClassVar[int] = 2

    @classmethod
    def names_in(cls, module: nn.Module) -> tuple[str, ...]:
        return tuple(n for n, p in module._parameters.items() if p is not None and p.dim() == 3)

    def _setup(self, *arguments: Any) -> None:
        self.transposed = getattr(self, "is_transposed", False)  # [experts, in, out] in some
        super()._setup(*arguments)


@register_qmodule("transformers.models.dbrx.modeling_dbrx.DbrxExpertGLU")
class QDbrxExperts(QParameters):
    """DBRX's experts, whose rows lie below each other in three matrices."""

    weight_names = ("w1", "v1", "w2")


@register_qmodule("transformers.models.csm.modeling_csm.CsmCodebooksHead")
class QCodebooks(QParameters):
    """CSM's heads, one for each codebook, in one tensor [codebooks, in, out]."""

    lead: ClassVar[int] = 2
    transposed = True


@register_qmodule("transformers.models.xlnet.modeling_xlnet.XLNetRelativeAttention")
class QRelativeAttention(QParameters):
    """XLNet's attention, whose weights [hidden, heads, head_dim] have a row for each channel."""

    weight_names = ("q", "k", "v", "r", "o")


@register_qmodule("transformers.models.funnel.modeling_funnel.FunnelRelMultiheadAttention")
class QFunnelAttention(QParameters):
    """Funnel's attention, of which positions alone have a weight like XLNet's."""

    weight_names = ("r_kernel",)


@register_qmodule(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
class QConvTranspose(QParameters):
    """A transposed convolution, whose rows are input channels; weight-only."""


@register_qmodule(nn.MultiheadAttention)
class QMultiheadAttention(QParameters):
    """torch's own attention; its output projection is a module of its own."""

    weight_names = ("in_proj_weight",)

    def _setup(self, *arguments: Any) -> None:
        super()._setup(*arguments)
        # Only a hook keeps torch's fused encoder layer from reading the weights past us.
        self._forward_pre_hooks.setdefault(0, _stay_on_the_slow_path)

    def to_float(self) -> nn.Module:
        made = super().to_float()
        if made._forward_pre_hooks.get(0) is _stay_on_the_slow_path:
            del made._forward_pre_hooks[0]
        return made


def _stay_on_the_slow_path(_module: nn.Module, _args: Any) -> None: ...


@register_qmodule("torch.nn.modules.linear.NonDynamicallyQuantizableLinear")
class QProjection(QParameters):
    """The output projection of torch's attention, which reads its weight and never calls it."""
