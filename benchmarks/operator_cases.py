"""What `bench_operators.py` times: the cases of each operator, their inputs, and the least work they need.

The least work is compulsory bytes, each input read once and each result written once, and FLOP of products.
Axes: B batch, M modality, C channel, H W pixels, h head, N token, D width of a head, K class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from operator_forms import (
    Forms,
    Run,
    attention_forms,
    modal_fuse_forms,
    norm_act_pad_forms,
    seg_loss_forms,
)
from torch import Tensor

MODES = ("forward", "backward", "both")

# Relative Frobenius errors that a form may have to be timed, forward and gradients. Wider than the limits
# that the tests hold ours to: published forms round in between, and where that changes the sign of what the
# rectifier gets, the gradient jumps.
LIMITS = {torch.float32: (1e-4, 1e-2), torch.float16: (5e-3, 5e-2), torch.bfloat16: (2e-2, 0.1)}

_NAMES = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}
_MAP_SHAPES = ((8, 512), (16, 256), (64, 64), (8, 128), (128, 16))
_FUSE_SHAPES = ((8, 512), (16, 256), (64, 64), (8, 128))
_HEADS, _WIDTH, _TOKENS, _FEW_TOKENS = 8, 32, 2048, 1024
_LOSS_SIZE = 512
_RELEASED = {"interp": "prob", "clamp": (0.005, 1.0), "dice_classes": "all", "align_corners": True}
_DEFAULT = {"interp": "logit", "clamp": None, "dice_classes": "present", "align_corners": True}
_PATTERNS = {"all present": [[True, True]] * 2, "one of two missing": [[True, False], [False, True]]}


def _whole(x: Tensor) -> Tensor:
    return x


@dataclass(frozen=True)
class Inputs:
    """One set of inputs.

    Attributes:
        leaves: What is differentiated.
        given: By name, what is not.
    """

    leaves: tuple[Tensor, ...]
    given: dict[str, Tensor] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """The bytes of all tensors."""
        return sum(each.nbytes for each in (*self.leaves, *self.given.values()))


@dataclass(frozen=True)
class Case:
    """One call of an operator.

    Attributes:
        operator: Its name.
        words: What tells the case from the others of the operator.
        dtype: Of the leaves.
        make: Gives a new set of inputs on a device.
        forms_of: Gives the forms and the definition, for the backends of ours.
        forward_flops: FLOP of products, forward.
        backward_flops: The same, backward.
        unread: Share of each leaf that the definition does not need, by place; none if missing.
        part: Of each leaf, what the definition and other forms than ours are asked for where they are
            checked. Attention's heads are independent.
        in_summary: Whether the short table has it.
    """

    operator: str
    words: str
    dtype: torch.dtype
    make: Callable[[torch.device], Inputs]
    forms_of: Callable[[Sequence[str]], tuple[Forms, Run]]
    forward_flops: int = 0
    backward_flops: int = 0
    unread: Sequence[float] = ()
    part: Callable[[Tensor], Tensor] = _whole
    in_summary: bool = False

    @property
    def name(self) -> str:
        """The case in one line."""
        return f"{self.operator}, {self.words}, {_NAMES[self.dtype]}"

    def flops(self, mode: str) -> int:
        """Return the FLOP of products in a mode."""
        forward, backward = (mode in (name, "both") for name in ("forward", "backward"))
        return forward * self.forward_flops + backward * self.backward_flops

    def compulsory_bytes(self, mode: str, inputs: Inputs, result_bytes: int) -> int:
        """Return the bytes that must be moved in a mode.

        Args:
            mode: One of MODES.
            inputs: A set of them.
            result_bytes: Of the result.
        """
        unread = (*self.unread, *(0.0 for _ in inputs.leaves))
        leaves = sum(x.nbytes * (1 - lost) for x, lost in zip(inputs.leaves, unread, strict=False))
        total = leaves + sum(each.nbytes for each in inputs.given.values()) + result_bytes
        if mode == "forward":
            return int(total)
        # Backward alone reads the inputs and a gradient and writes as many gradients as there are leaves.
        gradients = sum(each.nbytes for each in inputs.leaves)
        return int(total + gradients + (result_bytes if mode == "both" else 0))


def cases(device: torch.device) -> list[Case]:
    """Return the cases for a device; a GPU gets more precisions and larger batches than a CPU."""
    on_gpu = device.type == "cuda"
    dtypes = (torch.float32, torch.bfloat16) if on_gpu else (torch.float32,)
    found: list[Case] = []
    for batch in (2, 8) if on_gpu else (2,):
        for dtype in dtypes:
            found += _norm_cases(batch, dtype, on_gpu)
            found += _fuse_cases(batch, dtype)
            found += _loss_cases(batch, dtype)
        for dtype in (*dtypes, torch.float16) if on_gpu else (torch.float32, torch.bfloat16):
            found += _attention_cases(batch, dtype, on_gpu)
    return found


def _norm_cases(batch: int, dtype: torch.dtype, on_gpu: bool) -> Iterator[Case]:
    # On a CPU half of the gain is the layout in which the convolution gets it.
    for with_convolution in (True, False) if on_gpu else (True,):
        for channels, side in _MAP_SHAPES:
            for groups in ("sample", "channel"):
                flops = 2 * 9 * channels**2 * side**2 * batch * with_convolution
                what = "with 3x3 convolution" if with_convolution else "alone"
                yield Case(
                    "norm_act_pad",
                    f"{batch}x{channels}x{side}x{side}, {groups} norm, {what}",
                    dtype,
                    partial(_norm_inputs, (batch, channels, side, side), dtype, with_convolution),
                    partial(norm_act_pad_forms, groups, with_convolution),
                    flops,
                    2 * flops,
                    in_summary=with_convolution and side >= 256,
                )


def _norm_inputs(
    shape: tuple[int, int, int, int], dtype: torch.dtype, with_convolution: bool, device: torch.device
) -> Inputs:
    x = torch.randn(shape).to(device, dtype)
    if not with_convolution:
        return Inputs((x,))
    channels = shape[1]
    weight = torch.randn(channels, channels, 3, 3) / (9 * channels) ** 0.5
    return Inputs((x, weight.to(device, dtype), torch.randn(channels).to(device, dtype)))


def _fuse_cases(batch: int, dtype: torch.dtype) -> Iterator[Case]:
    for channels, side in _FUSE_SHAPES:
        for groups in ("sample", "channel"):
            for words, rows in _PATTERNS.items():
                pattern = _repeated(rows, batch)
                there = sum(map(sum, pattern))
                flops = 2 * channels**2 * side**2 * there
                yield Case(
                    "modal_fuse",
                    f"2 of {batch}x{channels}x{side}x{side}, {groups} norm, {words}",
                    dtype,
                    partial(_fuse_inputs, (batch, channels, side, side), dtype, pattern),
                    partial(modal_fuse_forms, groups),
                    flops,
                    2 * flops,
                    unread=_absent_shares(pattern),
                    in_summary=side == 512,
                )


def _fuse_inputs(
    shape: tuple[int, int, int, int],
    dtype: torch.dtype,
    pattern: Sequence[Sequence[bool]],
    device: torch.device,
) -> Inputs:
    channels = shape[1]
    maps = [torch.randn(shape) + 0.5 for _ in pattern[0]]
    weight, bias = torch.randn(channels, len(maps) * channels) / channels**0.5, torch.randn(channels)
    leaves = tuple(each.to(device, dtype) for each in (*maps, weight, bias))
    return Inputs(leaves, {"present": torch.tensor(pattern, device=device)})


def _loss_cases(batch: int, dtype: torch.dtype) -> Iterator[Case]:
    for num_classes in (5, 6):
        for words, options in (("released flags", _RELEASED), ("default flags", _DEFAULT)):
            yield Case(
                "multiscale_seg_loss",
                f"7 heads of {batch}x{num_classes}x{_LOSS_SIZE}x{_LOSS_SIZE} and less, {words}",
                dtype,
                partial(_loss_inputs, batch, num_classes, dtype),
                partial(seg_loss_forms, options),
                in_summary=True,
            )


def _loss_inputs(batch: int, num_classes: int, dtype: torch.dtype, device: torch.device) -> Inputs:
    # Fused, two modalities, and the scales 1/2 to 1/16.
    sizes = [_LOSS_SIZE] * 3 + [_LOSS_SIZE >> scale for scale in (1, 2, 3, 4)]
    heads = tuple(torch.randn(batch, num_classes, n, n).to(device, dtype) for n in sizes)
    target = torch.randint(0, num_classes, (batch, _LOSS_SIZE, _LOSS_SIZE))
    return Inputs(heads, {"target": target.to(device)})


def _attention_cases(batch: int, dtype: torch.dtype, on_gpu: bool) -> Iterator[Case]:
    # torch's dropout in bfloat16 on a CPU takes a second at the larger size.
    heads, width = _HEADS, _WIDTH
    tokens = _TOKENS if on_gpu or dtype == torch.float32 else _FEW_TOKENS
    pattern = _repeated(_PATTERNS["one of two missing"], batch)
    kinds = {
        "dropout 0.1": ("full", 0.1),
        "half of the keys": ("skip_keys", 0.0),
        "half of the tokens": ("skip_tokens", 0.0),
    }
    if on_gpu:  # on a CPU this is torch's own attention
        kinds["everything present"] = ("full", 0.0)
    for words, (mode, dropout_p) in kinds.items():
        share = {"full": 1.0, "skip_keys": 0.5, "skip_tokens": 0.25}[mode]
        pairs = int(share * batch * heads * tokens**2)
        queries = _absent_shares(pattern)[0] if mode == "skip_tokens" else 0.0
        keys = 0.0 if mode == "full" else _absent_shares(pattern)[0]
        yield Case(
            "modal_attention",
            f"{batch}x{heads}x{tokens}x{width}, {words}",
            dtype,
            partial(
                _attention_inputs, (batch, heads, tokens, width), dtype, None if mode == "full" else pattern
            ),
            partial(attention_forms, mode, dropout_p, pattern, dtype=dtype),
            4 * pairs * width,
            10 * pairs * width,
            unread=(queries, keys, keys),
            part=_first_head,
            in_summary=True,
        )


def _attention_inputs(
    shape: tuple[int, ...],
    dtype: torch.dtype,
    pattern: Sequence[Sequence[bool]] | None,
    device: torch.device,
) -> Inputs:
    given = {} if pattern is None else {"present": torch.tensor(pattern, device=device)}
    return Inputs(tuple(torch.randn(shape).to(device, dtype) for _ in range(3)), given)


def _first_head(x: Tensor) -> Tensor:
    """Return (B, 1, N, D): the softmax matrices of all heads in float64 take gigabytes."""
    return x[:, :1]


def _repeated(rows: list[list[bool]], batch: int) -> list[list[bool]]:
    return [rows[sample % len(rows)] for sample in range(batch)]


def _absent_shares(pattern: Sequence[Sequence[Any]]) -> list[float]:
    """Return for each modality the share of samples without it."""
    return [1 - sum(column) / len(pattern) for column in zip(*pattern, strict=True)]
