"""The twin of an embedding."""

from torch import Tensor, nn

from workbench.quant import QModule


class EmbeddingTwin(nn.Module):
    """Rows of int8, looked up and then scaled."""

    values: Tensor
    scale: Tensor
    point: Tensor | None

    def __init__(self, module: QModule, nbits: bool) -> None:
        super().__init__()
        del nbits
        stored = module.stored()
        values = stored.integers()
        self.columns = values.shape[1]
        self.register_buffer("values", values)
        groups = stored.scale.shape[-1]
        scale = stored.scale.float().reshape(-1, groups).expand(len(values), -1)
        self.register_buffer("scale", scale.contiguous())
        point = stored.zero_point
        if point is not None:
            point = point.float().reshape(-1, groups).expand(len(values), -1).contiguous()
        self.register_buffer("point", point)

    def forward(self, ids: Tensor) -> Tensor:
        groups = self.scale.shape[1]
        found = self.values[ids].float().unflatten(-1, (groups, self.columns // groups))
        if self.point is not None:
            found = found - self.point[ids].unsqueeze(-1)
        return (found * self.scale[ids].unsqueeze(-1)).flatten(-2)
