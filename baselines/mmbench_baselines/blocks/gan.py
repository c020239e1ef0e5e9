"""Image-to-image generators, patch discriminators, and what they learn from.

Axes: B batch, C channel, H W pixels.
Source: pix2pix (arXiv 1611.07004), in the depth and width of GEMMNet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmbench_baselines.optim import OptimizerParams

ADVERSARIAL_WEIGHT = 0.05
"""Of an adversarial term, beside the 1 of a segmentation head."""
RECONSTRUCTION_WEIGHT = 100 * ADVERSARIAL_WEIGHT
"""Of the mean absolute difference between generated and real image."""
GAN_OPTIMIZER = OptimizerParams("adam", lr=2e-4, betas=(0.5, 0.999))
"""Of generators and of discriminators, where each have one of their own."""

GanNorm = Literal["instance", "batch"]


def gan_norm(kind: GanNorm, channels: int) -> nn.Module:
    """Return an affine normalisation; "instance" keeps the rows of a batch independent, "batch" does not."""
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    return nn.InstanceNorm2d(channels, affine=True)


class Down(nn.Module):
    """Leaky ReLU (not on an image), 4x4 convolution, normalisation where there is one."""

    def __init__(
        self, in_channels: int, out_channels: int, *, norm: GanNorm | None, rectify: bool = True
    ) -> None:
        """Build the layer.

        Args:
            in_channels: C.
            out_channels: Channels of the result.
            norm: Kind, or None for no normalisation.
            rectify: Whether the leaky ReLU comes first.
        """
        super().__init__()
        self.rectify = rectify
        self.conv = nn.Conv2d(in_channels, out_channels, 4, stride=2, padding=1)
        self.norm = gan_norm(norm, out_channels) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, out, H/2, W/2)."""
        return cast(Tensor, self.norm(self.conv(F.leaky_relu(x, 0.2) if self.rectify else x)))


class Up(nn.Module):
    """ReLU, transposed 4x4 convolution, normalisation where there is one."""

    def __init__(self, in_channels: int, out_channels: int, *, norm: GanNorm | None) -> None:
        """Build the layer.

        Args:
            in_channels: C.
            out_channels: Channels of the result.
            norm: Kind, or None for no normalisation.
        """
        super().__init__()
        self.conv = nn.ConvTranspose2d(in_channels, out_channels, 4, stride=2, padding=1)
        self.norm = gan_norm(norm, out_channels) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, out, 2H, 2W)."""
        return cast(Tensor, self.norm(self.conv(F.relu(x))))


class ImageGenerator(nn.Module):
    """Four layers down, a bottleneck, four layers up with skips in between; values in (-1, 1)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        width: int,
        *,
        norm: GanNorm,
        skips: bool = True,
        bottleneck: nn.Module | None = None,
        bottleneck_width: int | None = None,
    ) -> None:
        """Build the layers.

        Args:
            in_channels: Of the source image.
            out_channels: Of the generated image.
            width: Channels after the first layer; the deepest map has eight times as many.
            norm: Kind.
            skips: Whether the layers up also see the maps on the way down.
            bottleneck: Works on the deepest map, (B, 8·width, H/16, W/16); None leaves it as it is.
            bottleneck_width: Channels that it returns; None for as many as it gets.

        Raises:
            ValueError: If the width is not positive.
        """
        super().__init__()
        if width < 1:
            raise ValueError(f"generator_width is {width}, expected 1 or more")
        self.skips = skips
        twice = 2 if skips else 1
        self.downs = nn.ModuleList(
            [
                Down(in_channels, width, norm=None, rectify=False),
                Down(width, 2 * width, norm=norm),
                Down(2 * width, 4 * width, norm=norm),
                Down(4 * width, 8 * width, norm=None),
            ]
        )
        self.bottleneck = bottleneck or nn.Identity()
        self.ups = nn.ModuleList(
            [
                Up(bottleneck_width or 8 * width, 4 * width, norm=norm),
                Up(twice * 4 * width, 2 * width, norm=norm),
                Up(twice * 2 * width, width, norm=norm),
                Up(twice * width, out_channels, norm=None),
            ]
        )

    def forward(self, source: Tensor) -> Tensor:
        """Return the generated image (B, out, H, W) for a source (B, C, H, W)."""
        maps = []
        x = source
        for down in self.downs:
            x = down(x)
            maps.append(x)
        x = self.bottleneck(maps.pop())
        for up in self.ups[:-1]:
            x, skip = up(x), maps.pop()
            x = torch.cat((x, skip), dim=1) if self.skips else x
        return torch.tanh(self.ups[-1](x))


class PatchDiscriminator(nn.Module):
    """Judge overlapping patches of 70x70 pixels: is the candidate real, given the condition?"""

    def __init__(self, in_channels: int, width: int, *, norm: GanNorm) -> None:
        """Build the layers.

        Args:
            in_channels: Of condition and candidate together.
            width: Channels after the first layer.
            norm: Kind.

        Raises:
            ValueError: If the width is not positive.
        """
        super().__init__()
        if width < 1:
            raise ValueError(f"discriminator_width is {width}, expected 1 or more")
        widths = [in_channels, width, 2 * width, 4 * width, 8 * width, 1]
        strides = [2, 2, 2, 1, 1]
        self.convs = nn.ModuleList(
            nn.Conv2d(below, above, 4, stride=stride, padding=1)
            for below, above, stride in zip(widths[:-1], widths[1:], strides, strict=True)
        )
        self.norms = nn.ModuleList([nn.Identity(), *(gan_norm(norm, c) for c in widths[2:5])])

    def forward(self, condition: Tensor, candidate: Tensor) -> Tensor:
        """Return a logit a patch, (B, 1, H/8 - 2, W/8 - 2), positive where it looks real."""
        x = torch.cat((condition, candidate), dim=1)
        if x.device.type == "cpu":  # forward and backward take 5 % less so, 9 % in bfloat16
            x = x.contiguous(memory_format=torch.channels_last)
        for conv, norm in zip(self.convs, self.norms, strict=False):
            x = F.leaky_relu(norm(conv(x)), 0.2)
        return cast(Tensor, self.convs[-1](x))


def init_convolutions(module: nn.Module) -> None:
    """Draw the weights of every convolution in it from N(0, 0.02) and set their biases to zero."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, 0.0, 0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def adversarial_losses(
    discriminator: nn.Module, condition: Tensor, real: Tensor, fake: Tensor, *, freeze: bool
) -> tuple[Tensor, Tensor]:
    """Return what the discriminator minimises, and what the generator does.

    The one is the mean of the binary cross-entropies of real images against "real" and of generated ones
    against "generated", without a gradient to these; the other that of generated images against "real". Both
    judge the same images with the same weights, so that one pass over the generated images serves both.
    Running statistics move as by the two passes it stands for.

    Args:
        discriminator: (condition, candidate) -> logits.
        condition: (B, C, H, W), without gradient.
        real: (B, C', H, W) real images.
        fake: (B, C', H, W) generated ones.
        freeze: Whether the discriminator's parameters are kept out of the second term's gradient.
    """
    on_real = _cross_entropy(discriminator(condition, real), is_real=True)
    originals = dict(discriminator.named_parameters())
    leaves = {name: _leaf(parameter) for name, parameter in originals.items()}
    image = _leaf(fake)
    with _as_if_passed_twice(discriminator), torch.enable_grad():
        logits = torch.func.functional_call(discriminator, leaves, (condition.detach(), image))
    rejoin = cast(Callable[..., Tensor], _Rejoin.apply)
    to_weights, to_images = (
        rejoin((logits, *leaves.values()), *originals.values()),
        rejoin((logits, image), fake),
    )
    on_fake = _cross_entropy(to_weights, is_real=False)
    fooled = to_images if freeze else to_images + (to_weights - to_weights.detach())
    return (on_real + on_fake) / 2, _cross_entropy(fooled, is_real=True)


@contextmanager
def _as_if_passed_twice(module: nn.Module) -> Iterator[None]:
    """Let the pass inside move running statistics as far as two passes over the same batch would."""
    norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d) and m.training]
    before = [{name: buffer.clone() for name, buffer in norm.named_buffers()} for norm in norms]
    yield
    for norm, old in zip(norms, before, strict=True):
        for name, buffer in norm.named_buffers():
            # r' = (1 - m) r + m s, and once more with the same s: r'' = r' + (1 - m) (r' - r). By `data`, as
            # backward would refuse what it saved and changed since; in training it does not read it.
            weight = 1 - (norm.momentum or 0.0) if buffer.is_floating_point() else 1
            buffer.data.add_(buffer - old[name], alpha=weight)


def _leaf(tensor: Tensor) -> Tensor:
    """Return the same values as the start of a graph of their own."""
    return tensor.detach().requires_grad_(tensor.requires_grad)


class _Rejoin(torch.autograd.Function):
    """The result of a graph of its own, joined to some of the tensors from which its leaves were detached.

    Joined twice, to parameters and to images, it gives each the gradient of other losses. That remains two
    backward passes, since every layer gets two gradients that do not add up; one forward pass serves both.
    """

    @staticmethod
    def forward(ctx: Any, graph: tuple[Tensor, ...], *originals: Tensor) -> Tensor:
        """Return the result, the first of `graph`; the others are the leaves, one an original."""
        ctx.result, *ctx.leaves = graph
        return graph[0].detach()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradient to each of the originals."""
        learning = [leaf for leaf in ctx.leaves if leaf.requires_grad]
        # Retained for the other side, which may come later or not at all.
        found = iter(torch.autograd.grad(ctx.result, learning, gradient, retain_graph=True))
        return None, *(next(found) if leaf.requires_grad else None for leaf in ctx.leaves)


def _cross_entropy(logits: Tensor, *, is_real: bool) -> Tensor:
    """Return the mean binary cross-entropy of patch logits against one answer."""
    answer = torch.ones_like(logits) if is_real else torch.zeros_like(logits)
    return F.binary_cross_entropy_with_logits(logits, answer)
