"""Arithmetic in which a sample's result is the same bits, whatever shares its batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_ATEN = torch.ops.aten


class ExactArithmetic(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Inside, products are taken row by row and sample by sample, and chance gives its mean.

    A library sums a product of matrices in another order for another number of rows, and dropout draws other
    numbers for another batch. Neither says that a method mixes its samples; without them every difference
    does, down to the last bit. Gradients are not taken inside.
    """

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run one operator."""
        replaced = _REPLACED.get(func, func)
        return replaced(*args, **(kwargs or {}))


def _mm(a: Tensor, b: Tensor) -> Tensor:
    return torch.cat([torch.mm(row, b) for row in _rows(a)]) if len(a) else torch.mm(a, b)


def _addmm(bias: Tensor, a: Tensor, b: Tensor, **scales: Any) -> Tensor:
    if not len(a):
        return torch.addmm(bias, a, b, **scales)
    biases = bias.expand(len(a), b.shape[1]).tensor_split(len(a))
    return torch.cat([torch.addmm(c, row, b, **scales) for c, row in zip(biases, _rows(a), strict=True)])


def _bmm(a: Tensor, b: Tensor) -> Tensor:
    if not len(a):
        return torch.bmm(a, b)
    return torch.cat([torch.bmm(x, y) for x, y in zip(_rows(a), _rows(b), strict=True)])


def _baddbmm(added: Tensor, a: Tensor, b: Tensor, **scales: Any) -> Tensor:
    if not len(a):
        return torch.baddbmm(added, a, b, **scales)
    terms = added.expand(len(a), a.shape[1], b.shape[2]).tensor_split(len(a))
    triples = zip(terms, _rows(a), _rows(b), strict=True)
    return torch.cat([torch.baddbmm(c, x, y, **scales) for c, x, y in triples])


def _convolution(x: Tensor, *settings: Any) -> Any:
    if not len(x):
        return _ATEN.convolution.default(x, *settings)
    return torch.cat([_ATEN.convolution.default(row, *settings) for row in _rows(x)])


def _rows(x: Tensor) -> list[Tensor]:
    """Return copies of the rows: aligned and strided alike wherever they stood."""
    return [row.clone(memory_format=torch.contiguous_format) for row in x.tensor_split(len(x))]


def _native_dropout(x: Tensor, p: float, train: bool | None) -> tuple[Tensor, Tensor]:
    return x.clone(), torch.ones_like(x, dtype=torch.bool)


def _constant(like: Callable[..., Any], value: float) -> Callable[..., Tensor]:
    """Return an operator that fills what another one makes."""

    def filled(*args: Any, **kwargs: Any) -> Tensor:
        result: Tensor = like(*args, **kwargs)
        return result.fill_(value)

    return filled


_REPLACED: dict[Any, Callable[..., Any]] = {
    _ATEN.mm.default: _mm,
    _ATEN.addmm.default: _addmm,
    _ATEN.bmm.default: _bmm,
    _ATEN.baddbmm.default: _baddbmm,
    _ATEN.convolution.default: _convolution,
    _ATEN.native_dropout.default: _native_dropout,
    _ATEN.bernoulli_.float: lambda x, p=0.5, **_: x.fill_(p),
    _ATEN.uniform_.default: lambda x, low=0.0, high=1.0, **_: x.fill_((low + high) / 2),
    _ATEN.normal_.default: lambda x, mean=0.0, std=1.0, **_: x.fill_(mean),
    _ATEN.rand.default: _constant(_ATEN.rand.default, 0.5),
    _ATEN.rand_like.default: _constant(_ATEN.rand_like.default, 0.5),
    _ATEN.randn.default: _constant(_ATEN.randn.default, 0.0),
    _ATEN.randn_like.default: _constant(_ATEN.randn_like.default, 0.0),
}
