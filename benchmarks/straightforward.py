"""GEMMNet as the published code computes it, with all the work that it wastes: what speed is compared with.

Written from the equations of the released model. The weights are those of a `GEMMNet(preset="released")`,
whose modules only hold them; outputs, loss terms and gradients are the same. Against that, it

- runs both generators in every training step, and encodes both real images, also the one that is hidden;
- normalises by the layer for volumes, rectifies its view in place, copies a map to pad it by no pixel;
- stores the attention matrices, drops out of them in training, and twice more behind the projection;
- decodes one modality after the other, and in evaluation computes the coarser heads and drops them;
- takes a softmax before it enlarges a head, and sums losses over heads and classes on one-hot targets;
- judges three times: the real image, the generated one detached, the generated one.

Axes: B batch, C channel, H W pixels, K class, N token, D width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from published_forms import modal_attention, normalise_and_rectify, one_hot_of, segmentation_terms
from torch import Tensor, nn
from torch.nn import functional as F

from mmbench_baselines.gemmnet import GEMMNet
from mmbench_baselines.method import Batch

CLAMP = (0.005, 1.0)


class Straightforward:
    """The released model over the modules of a GEMMNet; `train()` and `eval()` of that choose the mode."""

    def __init__(self, method: GEMMNet) -> None:
        self.method = method
        self.names = list(method.modalities)
        self.source = dict(zip(self.names, reversed(self.names), strict=True))

    def predict(self, images: Mapping[str, Tensor], present: Tensor) -> Tensor:
        """Return the fused probabilities (B, K, H, W), generating what is missing sample by sample."""
        filled = {}
        for column, name in enumerate(self.names):
            rows = list(images[name].split(1))
            for row, is_present in enumerate(present[:, column].tolist()):
                if not is_present:
                    other = images[self.source[name]][row : row + 1]
                    rows[row] = generate(self.method.generators[name], other)
            filled[name] = torch.cat(rows)
        maps = {name: encode(self.method.encoders[name].encoder, image) for name, image in filled.items()}
        probabilities, _ = self._fuse(maps)
        return probabilities

    def training_step(self, batch: Batch) -> dict[str, Tensor]:
        """Return the loss terms; the first row of `present` decides for the batch."""
        real, method = batch.complete, self.method
        if real is None:
            raise ValueError("Straightforward.training_step got batch.complete = None, expected the images")
        fakes = {n: generate(method.generators[n], real[self.source[n]]) for n in self.names}
        maps = {n: encode(method.encoders[n].encoder, real[n]) for n in self.names}
        missing = [
            n for n, is_present in zip(self.names, batch.present[0].tolist(), strict=True) if not is_present
        ]
        for name in missing:
            maps[name] = encode(method.encoders[name].encoder, fakes[name])
        fused, scales = self._fuse(maps)
        heads = {"fused": fused}
        for name in self.names:
            heads[f"modality.{name}"] = decode_modality(method.modality_decoder, maps[name])
        heads |= {f"scale.{index}": head for index, head in enumerate(scales, start=1)}
        one_hot = one_hot_of(batch.target, method.num_classes, method.ignore_index, fused.dtype)
        choices: dict[str, Any] = {"clamp": CLAMP, "dice_eps": 1e-7, "dice_classes": "all"}
        terms = {name: sum(segmentation_terms(p, one_hot, **choices)) for name, p in heads.items()}
        for name in missing:
            terms |= generation_terms(method.discriminators[name], name, real[name], fakes[name])
        return terms

    def _fuse(self, maps: Mapping[str, Sequence[Tensor]]) -> tuple[Tensor, list[Tensor]]:
        """Return the fused probabilities and those of the four coarser scales, enlarged."""
        method, tokens, positions = self.method, [], []
        for name in self.names:
            extractor, deepest = method.encoders[name], maps[name][-1]
            side = deepest.shape[-2:]
            sequence = extractor.token_proj(deepest).permute(0, 2, 3, 1).contiguous()
            positions.append(extractor.positions(*side))
            tokens.append(transform(extractor.transformer, sequence.flatten(1, 2), positions[-1]))
        fusion = method.fusion
        mixed = transform(fusion.transformer, torch.cat(tokens, dim=1), torch.cat(positions, dim=1))
        # The concatenated sequence is cut into cells of two neighbouring tokens, as released.
        grid = mixed.view(len(mixed), *side, -1).permute(0, 3, 1, 2).contiguous()
        skips = [torch.cat(level, dim=1) for level in zip(*(maps[n][:-1] for n in self.names), strict=True)]
        return decode_fused(fusion.decoder, skips, fusion.inter_proj(grid))


def convolve(block: nn.Module, x: Tensor) -> Tensor:
    """Normalise, rectify, pad by a copy, convolve."""
    y = normalise_and_rectify(x, block.norm)
    if block.pad_mode == "zeros":
        return F.conv2d(y, block.weight, block.bias, block.stride, block.pad)
    y = F.pad(y, (block.pad,) * 4, mode="reflect")  # a copy also where it adds no pixel
    return F.conv2d(y, block.weight, block.bias, block.stride)


def encode(encoder: nn.Module, image: Tensor) -> list[Tensor]:
    """Return the five maps of an image, finest first."""
    maps, x = [], image
    for index, stage in enumerate(encoder.stages):
        # The first convolution has nothing before it.
        y = stage.conv0(x) if index == 0 else convolve(stage.conv0, x)
        x = y + convolve(stage.conv2, convolve(stage.conv1, y))
        maps.append(x)
    return maps


def transform(transformer: nn.Module, tokens: Tensor, positions: Tensor) -> Tensor:
    """Return (B, N, D) after the layers, each of which first adds the positions."""
    for layer in transformer.layers:
        tokens = tokens + positions
        tokens = tokens + layer.dropout(attend(layer.attention, layer.attention_norm(tokens)))
        feed = layer.feed_forward
        hidden = feed.dropout(F.gelu(feed.fc1(layer.feed_forward_norm(tokens))))
        tokens = tokens + layer.dropout(feed.fc2(hidden))
    return tokens


def attend(attention: nn.Module, tokens: Tensor) -> Tensor:
    """Return (B, N, D) of attention with stored matrices and its first two dropouts."""
    batch_size, count, width = tokens.shape
    heads = attention.heads
    qkv = attention.qkv(tokens).reshape(batch_size, count, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
    dropped = attention.matrix_dropout if attention.training else 0.0
    mixed = modal_attention(qkv[0], qkv[1], qkv[2], dropout_p=dropped)
    return attention.proj_dropout(attention.proj(mixed.transpose(1, 2).reshape(batch_size, count, width)))


def climb(step: nn.Module, x: Tensor, skip: Tensor) -> Tensor:
    """Enlarge, convolve, concatenate with the skip, convolve twice."""
    y = convolve(step.conv0, F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True))
    pair = (skip, y) if step.skip_first else (y, skip)
    return convolve(step.conv2, convolve(step.conv1, torch.cat(pair, dim=1)))


def decode_fused(
    decoder: nn.Module, skips: Sequence[Tensor], bottleneck: Tensor
) -> tuple[Tensor, list[Tensor]]:
    """Return probabilities (B, K, H, W), and those of the coarser scales enlarged, finest first."""
    fuse = lambda block, x: convolve(block.conv2, convolve(block.conv1, convolve(block.conv0, x)))  # noqa: E731
    x = fuse(decoder.fusions[-1], bottleneck)
    scales = [widen(decoder.side_heads[3], x, 16)]
    for level in (3, 2, 1, 0):
        x = climb(decoder.ups[level], x, fuse(decoder.fusions[level], skips[level]))
        if level:
            scales.append(widen(decoder.side_heads[level - 1], x, 2**level))
    return torch.softmax(decoder.head(x), dim=1), scales[::-1]


def widen(head: nn.Module, x: Tensor, factor: int) -> Tensor:
    """Return the probabilities of a coarse head at the size of the target."""
    coarse = torch.softmax(head(x), dim=1)
    return F.interpolate(coarse, scale_factor=factor, mode="bilinear", align_corners=True)


def decode_modality(decoder: nn.Module, maps: Sequence[Tensor]) -> Tensor:
    """Return the probabilities (B, K, H, W) from the maps of one modality."""
    x = maps[-1]
    for level in (3, 2, 1, 0):
        x = climb(decoder.ups[level], x, maps[level])
    return torch.softmax(decoder.head(x), dim=1)


def generate(generator: nn.Module, source: Tensor) -> Tensor:
    """Return the generated image (B, C, H, W)."""
    maps, x = [], source
    for index, down in enumerate(generator.downs):
        x = down.norm(down.conv(x if index == 0 else F.leaky_relu(x, 0.2)))
        maps.append(x)
    bottleneck, side = generator.bottleneck, x.shape[-2:]
    tokens = bottleneck.token_proj(x).permute(0, 2, 3, 1).contiguous().flatten(1, 2)
    tokens = transform(bottleneck.transformer, tokens, bottleneck.positions(*side))
    x = tokens.view(len(tokens), *side, -1).permute(0, 3, 1, 2).contiguous()
    for up, skip in zip(generator.ups[:-1], maps[-2::-1], strict=True):
        x = torch.cat((up.norm(up.conv(F.relu(x))), skip), dim=1)
    return torch.tanh(generator.ups[-1].conv(F.relu(x)))


def judge(discriminator: nn.Module, condition: Tensor, candidate: Tensor) -> Tensor:
    """Return a logit a patch."""
    x = F.leaky_relu(discriminator.convs[0](torch.cat((condition, candidate), dim=1)), 0.2)
    for index in (1, 2, 3):
        x = F.leaky_relu(discriminator.norms[index](discriminator.convs[index](x)), 0.2)
    return discriminator.convs[4](x)


def generation_terms(discriminator: nn.Module, name: str, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
    """Return the weighted terms of one generation; the condition is the target itself, as released."""
    on_real, on_detached = judge(discriminator, real, real), judge(discriminator, real, fake.detach())
    on_fake = judge(discriminator, real, fake)
    entropy = F.binary_cross_entropy_with_logits
    judged = (
        entropy(on_real, torch.ones_like(on_real)) + entropy(on_detached, torch.zeros_like(on_real))
    ) / 2
    return {
        f"discriminator.{name}": 0.05 * judged,
        f"adversarial.{name}": 0.05 * entropy(on_fake, torch.ones_like(on_fake)),
        f"reconstruction.{name}": 0.05 * 100 * F.l1_loss(fake, real),
    }
