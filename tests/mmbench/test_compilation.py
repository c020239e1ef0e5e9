"""Compiled inference, here without a C++ compiler: the graphs are traced whole and run by torch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from mmbench.compilation import CompiledMethod
from mmbench.errors import CellFailedError
from mmbench.registry import find, names
from mmbench_baselines.method import Method, Output

MODALITIES = {"irrg": 3, "ndsm": 1}
_TOKENS = {"base_width": 4, "token_width": 16, "hidden_width": 16, "heads": 4, "train_size": 64}
SMALL: dict[str, dict[str, Any]] = {"mmformer": _TOKENS, "gemmnet": _TOKENS, "shaspec": {"width": 32}}


def images(batch_size: int = 1) -> dict[str, Tensor]:
    return {n: torch.rand(batch_size, c, 64, 64, dtype=torch.float64) for n, c in MODALITIES.items()}


def build(name: str) -> Method:
    torch.manual_seed(0)
    method: Method = find("method", name)(MODALITIES, 6, **SMALL.get(name, {}))
    return method.double()


@pytest.fixture(autouse=True)
def no_graphs_of_other_tests() -> None:
    torch._dynamo.reset()


@pytest.mark.parametrize("name", names("method"))
def test_every_method_is_one_graph_and_says_the_same(name: str) -> None:
    method = build(name)
    compiled = CompiledMethod(method, backend="eager")
    with torch.no_grad():
        for pattern in ([True, True], [False, True]):
            given, present = images(), torch.tensor([pattern])
            found, expected = compiled(given, present), method(given, present)
            torch.testing.assert_close(found.logits, expected.logits, rtol=0, atol=1e-8)
            assert found.imputed.keys() == expected.imputed.keys()
    assert compiled.graphs == 2
    assert not method.training


def test_a_graph_is_compiled_once_a_pattern_and_its_weights_may_change() -> None:
    method = build("unimodal")
    compiled = CompiledMethod(method, backend="eager")
    given, present = images(), torch.tensor([[True, True]])
    with torch.no_grad():
        before = compiled(given, present).logits
        spent = compiled.seconds
        next(method.parameters()).mul_(2)
        assert not torch.equal(compiled(given, present).logits, before)
    assert (compiled.graphs, compiled.seconds) == (1, spent)


def test_a_batch_of_several_patterns_goes_uncompiled() -> None:
    method = build("expert_switch")
    compiled = CompiledMethod(method, backend="eager")
    given, present = images(2), torch.tensor([[True, True], [True, False]])
    with torch.no_grad():
        assert torch.equal(compiled(given, present).logits, method(given, present).logits)
    assert compiled.graphs == 0


class _Peeks(Method):
    """Looks at a value, which a graph cannot."""

    def forward(self, images: Any, present: Tensor) -> Output:
        image = images["irrg"]
        return Output(image if float(image.sum()) > 0 else -image)

    def loss(self, output: Any, batch: Any) -> dict[str, Tensor]:
        return {}


def test_a_method_that_cannot_be_a_graph_is_named_with_the_way_out() -> None:
    compiled = CompiledMethod(_Peeks(MODALITIES, 6), backend="eager")
    with pytest.raises(CellFailedError, match=r"_Peeks cannot be compiled as one graph.*leave --compile out"):
        compiled(images(), torch.tensor([[True, True]]))
