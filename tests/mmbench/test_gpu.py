"""What only a CUDA device can show; skips itself elsewhere."""

import dataclasses

import numpy as np
import pytest
import torch

from mmbench.cells import Cell, Run
from mmbench.devices import resolve_device, resolve_precision
from mmbench.execution import run_cell
from mmbench.records import read_confusions
from mmbench.registry import find, names
from mmbench.testing.methods import example_batch
from mmbench_baselines.method import Batch

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]


def _to_cuda(batch):
    def move(images):
        return None if images is None else {name: image.cuda() for name, image in images.items()}

    return Batch(move(batch.images), batch.present.cuda(), batch.target.cuda(), move(batch.complete))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_cell_on_the_gpu_leaves_a_finished_record(small_dataset, short_recipe, tmp_path, precision):
    training = short_recipe.training.model_copy(update={"precision": precision})
    recipe = short_recipe.model_copy(update={"training": training})
    run = Run("synthetic", small_dataset, recipe, torch.device("cuda"), tmp_path, workers=2)
    record = run_cell(run, Cell("modality_dropout", 0))
    assert record.status == "done", record.error
    assert record.identity["precision"] == precision
    pixels = {m.sum() for m in read_confusions(tmp_path, record).values()}
    assert len(pixels) == 1  # every scenario counts the same pixels


def test_cpu_and_gpu_cells_of_auto_precision_have_different_ids_only_where_the_precision_differs(
    small_dataset, short_recipe, tmp_path
):
    from mmbench.cells import identity

    on_cpu = Run("synthetic", small_dataset, short_recipe, torch.device("cpu"), tmp_path)
    on_gpu = dataclasses.replace(on_cpu, device=torch.device("cuda"))
    ids = [identity(run, Cell("modality_dropout", 0)) for run in (on_cpu, on_gpu)]
    same = resolve_precision(torch.device("cuda"), "auto") == "float32"
    assert (ids[0] == ids[1]) is same


@pytest.mark.parametrize("name", names("method"))
def test_logits_on_the_gpu_equal_those_on_the_cpu(name):
    torch.manual_seed(0)
    method = find("method", name)({"irrg": 3, "ndsm": 1}, 6).double().eval()
    batch = example_batch(method, torch.tensor([[True, True], [True, False], [False, True]]))
    images = {key: image.double() for key, image in batch.images.items()}
    with torch.no_grad():
        expected = method(images, batch.present).logits.numpy()
        method.cuda()
        found = method({k: v.cuda() for k, v in images.items()}, batch.present.cuda()).logits.cpu().numpy()
    assert np.abs(found - expected).max() <= 1e-8 * max(1.0, np.abs(expected).max())


@pytest.mark.parametrize("name", names("method"))
def test_a_training_step_under_bfloat16_has_finite_gradients(name):
    torch.manual_seed(0)
    method = find("method", name)({"irrg": 3, "ndsm": 1}, 6).cuda()
    batch = _to_cuda(example_batch(method, torch.tensor([[True, True], [True, False], [False, True]])))
    with torch.autocast("cuda", dtype=torch.bfloat16):
        terms = method.training_step(batch)
    torch.autograd.backward(torch.stack(list(terms.values())).sum())
    gradients = [p.grad for p in method.parameters() if p.grad is not None]
    assert gradients
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)


def test_auto_takes_the_gpu():
    assert resolve_device("auto").type == "cuda"
