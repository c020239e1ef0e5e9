"""Golden numbers with the operators in Triton's interpreter.

float32, for the kernels compute in no wider dtype; the tolerances are ten times the error that an independent
float32 implementation had.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mmbench_baselines.method import Batch
from tests.baselines import test_gemmnet_golden as gemmnet_golden
from tests.baselines import test_mmformer_golden as mmformer_golden

Launches = list[tuple[int, ...]]


def test_a_training_step_of_gemmnet_by_kernels_has_the_golden_numbers(launches: Launches) -> None:
    data, method = gemmnet_golden.archive(), gemmnet_golden.tiny("released").float()
    total = _total(method.training_step(_single(gemmnet_golden.golden_batch("miss_ndsm"))))
    total.backward()
    stored = gemmnet_golden.stored_losses("expect/miss_ndsm/train")
    assert total.item() == pytest.approx(stored["total"], abs=5e-5)
    parameters = dict(method.named_parameters())
    expected = torch.from_numpy(data["expect/miss_ndsm/train/grad_norm"])
    floor = 1e-3 * float(expected.nan_to_num().max())
    for canonical, norm in zip(data["grad_norm/names"].tolist(), expected.tolist(), strict=True):
        gradient = parameters[gemmnet_golden.our_name(canonical)].grad
        if gradient is not None:
            assert abs(float(gradient.norm()) - norm) <= 2e-4 * max(norm, floor), canonical
    assert launches


def test_mmformer_by_kernels_has_the_golden_numbers(launches: Launches) -> None:
    data, batch = mmformer_golden.archive(), _single(mmformer_golden.golden_batch("mixed"))
    method = mmformer_golden.tiny("released").float()
    with torch.no_grad():
        total = _total(method.training_step(batch))
        predicted = method.eval()(batch.images, batch.present).logits.softmax(1)
    names, values = (data[f"expect/mixed/loss_{what}"].tolist() for what in ("names", "values"))
    assert total.item() == pytest.approx(dict(zip(names, values, strict=True))["total"], abs=2e-5)
    assert mmformer_golden.difference(predicted, data["expect/mixed/fuse_pred"]) < 2e-4
    assert launches


def _total(terms: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(terms.values())).sum()


def _single(batch: Batch) -> Batch:
    """Return a batch in float32."""
    images = {name: image.float() for name, image in batch.images.items()}
    complete = None if batch.complete is None else {n: x.float() for n, x in batch.complete.items()}
    return Batch(images, batch.present, batch.target, complete)
