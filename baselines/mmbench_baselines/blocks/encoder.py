"""The convolutional encoder of one modality.

Axes: B batch, C channel, H W pixels.
"""

from __future__ import annotations

import itertools
from typing import cast

from torch import Tensor, nn

from mmbench_baselines.blocks.conv import PreActivationConv
from mmbench_kernels.ops.norm_act_pad import Groups

STAGES = 5
REDUCTION: int = 2 ** (STAGES - 1)
"""Factor between the image and the deepest map."""


def stage_widths(base_width: int) -> list[int]:
    """Return the channels of the five stages, doubling from `base_width`.

    Raises:
        ValueError: If it is not positive.
    """
    if base_width < 1:
        raise ValueError(f"base_width is {base_width}, expected 1 or more")
    return [base_width * 2**stage for stage in range(STAGES)]


def deepest_side(train_size: int, *, minimum: int) -> int:
    """Return the side, cells, of the deepest map of a square image.

    Args:
        train_size: Height and width, pixels.
        minimum: Of the method that asks, pixels.

    Raises:
        ValueError: If the method could not take such an image.
    """
    if train_size < minimum or train_size % REDUCTION:
        raise ValueError(f"train_size is {train_size}, expected a multiple of {REDUCTION}, {minimum} or more")
    return train_size // REDUCTION


class EncoderStage(nn.Module):
    """One convolution that sets width and resolution, and a residual pair on top of it."""

    def __init__(self, first: nn.Module, width: int, norm: Groups) -> None:
        """Build the stage.

        Args:
            first: The convolution to `width` channels.
            width: Channels of the result.
            norm: See `PreActivationConv`.
        """
        super().__init__()
        self.conv0 = first
        self.conv1 = PreActivationConv(width, width, norm=norm)
        self.conv2 = PreActivationConv(width, width, norm=norm)

    def forward(self, x: Tensor) -> Tensor:
        """Return y + conv2(conv1(y)) with y = conv0(x)."""
        y = self.conv0(x)
        return cast(Tensor, y + self.conv2(self.conv1(y)))


class ConvEncoder(nn.Module):
    """Five stages, each but the first halving the resolution and doubling the width.

    Source: the shared encoder of mmFormer (arXiv 2206.02425), in 2-D.
    """

    def __init__(self, in_channels: int, base_width: int, *, norm: Groups = "channel") -> None:
        """Build the stages.

        Args:
            in_channels: C of the image.
            base_width: Channels of the first stage.
            norm: See `PreActivationConv`.
        """
        super().__init__()
        widths = stage_widths(base_width)
        # The raw image is not normalised: its first convolution has nothing before it.
        first: list[nn.Module] = [
            nn.Conv2d(in_channels, base_width, 3, padding=1, padding_mode="reflect"),
            *(
                PreActivationConv(below, above, stride=2, norm=norm)
                for below, above in itertools.pairwise(widths)
            ),
        ]
        self.stages = nn.ModuleList(
            EncoderStage(conv, width, norm) for conv, width in zip(first, widths, strict=True)
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the five maps of (B, C, H, W), from (B, base, H, W) to (B, 16 base, H/16, W/16)."""
        maps = []
        x = image
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps
