"""EfficientNet-Lite for inference, in plain torch: batch normalisation is folded into the weights.

EfficientNet is arXiv 1905.11946. The Lite variants have ReLU6 for swish, no squeeze-and-excitation,
and a stem and a last convolution whose width does not grow with the model. Padding is TensorFlow's
"SAME": for an odd number of rows or columns the second side gets one more.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from negrefine.encoders.fused_convolution import Convolution
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
        hidden = self.stem.with_relu6(functional.pad(pixels, _same_padding(self.stem, pixels)))
        for block in self.blocks:
            hidden = block(hidden)
        features: Tensor = self.last.with_relu6(hidden)
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
        """Return the block's output; `x` may be overwritten."""
        hidden, padding = x, _same_padding(self.filter, x)
        if any(padding):
            # The narrow map is padded instead of the wide one, whose border is then made zero.
            hidden = functional.pad(x, padding)
        if self.widen is not None:
            hidden = self.widen.with_relu6(hidden)
            if any(padding):
                _clear_border(hidden, padding)
        hidden = self.filter.with_relu6(hidden)
        if self.adds_input:
            return self.narrow.added_to(x, hidden)
        return self.narrow.convolve(hidden)


def _convolution(
    n_in: int, n_out: int, kernel: int, *, stride: int = 1, groups: int = 1
) -> Convolution:
    padding = 0 if stride > 1 else kernel // 2
    return Convolution(n_in, n_out, kernel, stride, padding, groups=groups)


def _same_padding(convolution: Convolution, x: Tensor) -> tuple[int, int, int, int]:
    """Return what a convolution with a stride still needs left, right, above and below."""
    stride, kernel = convolution.stride[0], convolution.kernel_size[0]
    if stride == 1:
        return 0, 0, 0, 0
    rows, columns = (max((-(-n // stride) - 1) * stride + kernel - n, 0) for n in x.shape[2:])
    return columns // 2, columns - columns // 2, rows // 2, rows - rows // 2


def _clear_border(x: Tensor, padding: tuple[int, int, int, int]) -> None:
    left, right, above, below = padding
    height, width = x.shape[2:]
    for border in (
        x[..., :left],
        x[..., width - right :],
        x[..., :above, :],
        x[..., height - below :, :],
    ):
        border.zero_()
