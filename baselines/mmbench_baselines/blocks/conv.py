"""The convolution of the segmenters, with everything that stands before it.

Axes: B batch, C channel, H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from torch import Tensor, nn
from torch.nn import functional as F

from mmbench_kernels import norm_act_pad
from mmbench_kernels.ops.norm_act_pad import Groups, PadMode, Up2

NEGATIVE_SLOPE = 0.2
"""Of the leaky ReLU before every convolution."""

SegmenterInit = Literal["kaiming", "pytorch"]


def init_kaiming(module: nn.Module) -> None:
    """Draw the weights of every convolution in it from N(0, 2 / fan-in); all else stays as it is.

    Source: mmFormer (arXiv 2206.02425), authors' code. PyTorch's own start has 0.4 of that deviation, and
    through layers without weights in their normalisation little of the image is left at the last one.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)


class PreActivationConv(nn.Conv2d):
    """Normalise, leaky ReLU, pad, convolve: (B, C, H, W) -> (B, out, H/stride, W/stride).

    The normalisation has neither weights nor running statistics, so a sample never depends on its neighbours
    in the batch.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        *,
        stride: int = 1,
        norm: Groups = "channel",
        pad_mode: PadMode = "reflect",
    ) -> None:
        """Build the convolution.

        Args:
            in_channels: C.
            out_channels: Channels of the result.
            kernel_size: Odd; half of it is padded on each side.
            stride: Of the convolution.
            norm: Statistics over (H, W) of each channel, or over (C, H, W) of each sample.
            pad_mode: How the border is filled.

        Raises:
            ValueError: If `norm` is unknown.
        """
        if norm not in get_args(Groups):
            raise ValueError(f"norm is {norm!r}, expected one of {list(get_args(Groups))}")
        super().__init__(in_channels, out_channels, kernel_size, stride=stride)
        self.norm: Groups = norm
        self.pad = kernel_size // 2
        self.pad_mode: PadMode = pad_mode

    def forward(self, x: Tensor | Sequence[Tensor | Up2]) -> Tensor:
        """Return the convolution of the padded, rectified, normalised input.

        Args:
            x: (B, C, H, W), or several maps joined on C, each `Up2` doubled in size first.
        """
        y = norm_act_pad(
            x, groups=self.norm, negative_slope=NEGATIVE_SLOPE, pad=self.pad, pad_mode=self.pad_mode
        )
        return F.conv2d(y, self.weight, self.bias, self.stride)
