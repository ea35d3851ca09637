"""EfficientNet-Lite for inference, in plain torch: batch normalisation is folded into the weights.

EfficientNet is arXiv 1905.11946. The Lite variants have ReLU6 for swish, no squeeze-and-excitation,
and a stem and a last convolution whose width does not grow with the model. Padding is TensorFlow's
"SAME": for an odd number of rows or columns the second side gets one more.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from negrefine.encoders.photo_family import LiteConfig, Stage


class EfficientNetLite(nn.Module):
    """Pixels (n, 3, s, s) to the last feature map (n, feature_size, g, g), from 0 to 6."""

    def __init__(self, config: LiteConfig) -> None:
        super().__init__()
        self.stem = _convolution(3, config.stem_size, 3, stride=2)
        blocks: list[_Block] = []
        width = config.stem_size
        for stage in config.stages:
            for i in range(stage.n_blocks):
                stride = stage.stride if i == 0 else 1
                blocks.append(_Block(width, stage, stride))
                width = stage.width
        self.blocks = nn.ModuleList(blocks)
        self.last = _convolution(width, config.feature_size, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        hidden = functional.relu6(_same(self.stem, pixels), inplace=True)
        for block in self.blocks:
            hidden = block(hidden)
        features: Tensor = functional.relu6(self.last(hidden), inplace=True)
        return features


class _Block(nn.Module):
    """Widen by 1 x 1, filter each channel, narrow by 1 x 1; add the input where sizes agree."""

    def __init__(self, width: int, stage: Stage, stride: int) -> None:
        super().__init__()
        inner = width * stage.expansion
        self.widen = None if stage.expansion == 1 else _convolution(width, inner, 1)
        self.filter = _convolution(inner, inner, stage.kernel, stride=stride, groups=inner)
        self.narrow = _convolution(inner, stage.width, 1)
        self.adds_input = stride == 1 and width == stage.width

    def forward(self, x: Tensor) -> Tensor:
        hidden = x if self.widen is None else functional.relu6(self.widen(x), inplace=True)
        hidden = functional.relu6(_same(self.filter, hidden), inplace=True)
        narrow: Tensor = self.narrow(hidden)
        return narrow.add_(x) if self.adds_input else narrow


def _convolution(
    n_in: int, n_out: int, kernel: int, *, stride: int = 1, groups: int = 1
) -> nn.Conv2d:
    padding = 0 if stride > 1 else kernel // 2
    return nn.Conv2d(n_in, n_out, kernel, stride, padding, groups=groups)


def _same(convolution: nn.Conv2d, x: Tensor) -> Tensor:
    """Apply a convolution; one with a stride is padded here, as it depends on the size."""
    stride, kernel = convolution.stride[0], convolution.kernel_size[0]
    if stride > 1:
        rows, columns = (max((-(-n // stride) - 1) * stride + kernel - n, 0) for n in x.shape[2:])
        x = functional.pad(x, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))
    result: Tensor = convolution(x)
    return result
