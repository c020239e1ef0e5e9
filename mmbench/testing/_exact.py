"""Arithmetic in which a sample's result is the same bits, whatever shares its batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_ATEN = torch.ops.aten


class ExactArithmetic(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Inside, products are taken row by row and sample by sample, and chance gives its mean.

    A library sums a product of matrices in another order for another number of rows, and dropout draws other
    numbers for another batch. Neither says that a method mixes its samples; without them every difference
    does, down to the last bit. Batch normalisation that has running statistics uses them, in training too.
    Gradients are not taken inside.
    """

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run one operator."""
        arguments = kwargs or {}
        if func in _REPLACED:
            return _REPLACED[func](*args, **arguments)
        given = _by_name(func, args, arguments)
        if given.get("dropout_p"):  # attention that drops by a hash of the sample's place, for one
            return func(**given | {"dropout_p": 0.0})
        if torch.Tag.nondeterministic_seeded in func.tags or "generator" in given:
            return _without_chance(func, args, arguments, given)
        if given.get("training") and given.get("running_mean") is not None:
            return func(**given | {"training": False})
        return func(*args, **arguments)


def _by_name(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return all arguments of a call, defaults too, by their names."""
    names = [argument.name for argument in func._schema.arguments]
    defaults = {a.name: a.default_value for a in func._schema.arguments if a.has_default_value()}
    return defaults | dict(zip(names, args, strict=False)) | dict(kwargs)


def _without_chance(
    func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], given: Mapping[str, Any]
) -> Any:
    """Run a random operator, and put what it gives on the average where it put what it drew."""
    expected = _EXPECTED.get(func.overloadpacket.__name__.strip("_"))
    if expected is None:  # random only if it is asked to be, and nothing above knew that it was
        return func(*args, **kwargs)
    value = expected(given)  # before the operator runs, which may write where it reads
    result = func(*args, **kwargs)
    return result.copy_(value) if isinstance(value, Tensor) else result.fill_(value)


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


def _multinomial(given: Mapping[str, Any]) -> Tensor:
    """Return the likeliest, in falling order: an average of indices means nothing."""
    order = given["self"].argsort(dim=-1, descending=True, stable=True)
    count = given["num_samples"]
    chosen: Tensor = order[..., [0] * count] if given["replacement"] else order[..., :count]
    return chosen


def _rrelu(given: Mapping[str, Any]) -> Tensor:
    slope = (given["lower"] + given["upper"]) / 2
    return torch.nn.functional.leaky_relu(given["self"], slope)


_REPLACED: dict[Any, Callable[..., Any]] = {
    _ATEN.mm.default: _mm,
    _ATEN.addmm.default: _addmm,
    _ATEN.bmm.default: _bmm,
    _ATEN.baddbmm.default: _baddbmm,
    _ATEN.convolution.default: _convolution,
    _ATEN.native_dropout.default: _native_dropout,
}
# By the operator's name, whichever of its forms is called; the arguments have the names of torch's schemas.
_EXPECTED: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "bernoulli": lambda given: given.get("p", given["self"]),
    "binomial": lambda given: given["count"] * given["prob"],
    "cauchy": lambda given: given["median"],
    "exponential": lambda given: 1 / given["lambd"],
    "geometric": lambda given: 1 / given["p"],
    "log_normal": lambda given: math.exp(given["mean"] + given["std"] ** 2 / 2),
    "multinomial": _multinomial,
    "normal": lambda given: given["mean"],
    "poisson": lambda given: given["self"],
    "rand": lambda given: 0.5,
    "rand_like": lambda given: 0.5,
    "randint": lambda given: given.get("low", 0),
    "randint_like": lambda given: given.get("low", 0),
    "randn": lambda given: 0.0,
    "randn_like": lambda given: 0.0,
    "random": lambda given: given.get("from") or 0,
    # Backwards: in order, a shuffle of the samples would not show.
    "randperm": lambda given: torch.arange(given["n"] - 1, -1, -1),
    "rrelu_with_noise": _rrelu,
    "rrelu_with_noise_functional": _rrelu,
    "sample_dirichlet": lambda given: given["self"] / given["self"].sum(-1, keepdim=True),
    "standard_gamma": lambda given: given["self"],
    "uniform": lambda given: (given["from"] + given["to"]) / 2,
}
