"""Methods and datasets are found by their file's name: dropping a file in is all it takes."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import mmbench
from mmbench.errors import UnknownNameError
from mmbench.registry import entries, entry, find, names

_METHOD = '''
"""A method in one file."""
import torch
from torch import nn
from mmbench_baselines.method import Method, Output

class Dropped(Method):
    title = "Dropped in"
    paper = "none"
    source = "none"

    def __init__(self, modalities, num_classes, *, ignore_index=255):
        super().__init__(modalities, num_classes, ignore_index=ignore_index)
        self.convs = nn.ModuleDict({n: nn.Conv2d(c, num_classes, 1) for n, c in modalities.items()})

    def forward(self, images, present):
        zero = torch.zeros((), device=present.device)
        return Output(sum(
            torch.where(present[:, i, None, None, None], self.convs[n](x), zero)
            for i, (n, x) in enumerate(images.items())
        ))

    def loss(self, output, batch):
        logits, target = output.logits, batch.target
        return {"ce": nn.functional.cross_entropy(logits, target, ignore_index=self.ignore_index)}
'''

_DATASET = '''
"""A dataset in one file."""
import numpy as np
from mmbench.datasets._dataset import Dataset, Sample, Split, Window
from mmbench.errors import DataError

class Stripes(Dataset):
    title = "Stripes"
    homepage = "none"
    licence = "CC0"
    classes = ("dark", "light")
    palette = ((0, 0, 0), (255, 255, 255))
    scored_classes = (0, 1)
    gsd_m = 1.0
    splits = {"only": Split(train=("a",), val=(), test=("b",))}

    def __init__(self, *, root=None, split=None):
        self.modalities = {"grey": 1, "depth": 1}
        self.split, self.split_name = self.splits["only"], "only"

    identity = {"version": 1}

    def size(self, tile_id):
        return 64, 96

    def read(self, tile_id, window=None, *, labels="full"):
        if tile_id not in ("a", "b"):
            raise DataError(f"no tile {tile_id!r}")
        target = (np.arange(96) // 8 % 2).astype(np.uint8)[None].repeat(64, 0)
        top, left, height, width = window or Window(0, 0, 64, 96)
        if labels == "eroded":
            target[:, ::8] = 255
        grey = (np.arange(96) // 8 % 2 * 200).astype(np.uint8)[None, None].repeat(64, 1)
        rows, columns = slice(top, top + height), slice(left, left + width)
        images = {"grey": grey[:, rows, columns], "depth": (grey / 9).astype(np.float32)[:, rows, columns]}
        return Sample(images, target[rows, columns], tile_id)

    @classmethod
    def fake(cls, root):
        return cls()
'''


@pytest.fixture(scope="module")
def tree_with_dropped_files(tmp_path_factory):
    """A copy of the three packages with one new file in two of them, and no other edit."""
    root = tmp_path_factory.mktemp("tree")
    source = Path(mmbench.__file__).parents[1]
    ignore = shutil.ignore_patterns("__pycache__")
    for package in ("mmbench", "kernels/mmbench_kernels", "baselines/mmbench_baselines"):
        shutil.copytree(source / package, root / Path(package).name, ignore=ignore)
    (root / "mmbench_baselines" / "dropped.py").write_text(_METHOD)
    (root / "mmbench" / "datasets" / "stripes.py").write_text(_DATASET)
    return root


def _run(root, *arguments):
    # -P and the tree in front: the copy must win over the installed packages.
    code = f"import sys; sys.path.insert(0, {str(root)!r}); from mmbench.cli import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-P", "-c", code, *arguments], cwd=root, capture_output=True, text=True, check=False
    )


def test_dropped_files_are_listed(tree_with_dropped_files):
    listed = _run(tree_with_dropped_files, "list")
    assert listed.returncode == 0, listed.stderr
    assert "dropped           Dropped in" in listed.stdout
    assert "stripes    Stripes" in listed.stdout


def test_dropped_files_run_together_to_a_table(tree_with_dropped_files):
    done = _run(
        tree_with_dropped_files,
        *["run", "-m", "dropped", "-d", "stripes", "-r", "smoke", "--progress", "off", "--device", "cpu"],
        *["--set", "training.window=64", "--set", "training.steps=60", "--set", "training.optimizer.lr=0.1"],
    )
    assert done.returncode == 0, done.stderr
    row = next(line.split() for line in done.stdout.splitlines() if line.startswith("dropped"))
    assert float(row[1]) > 99  # stripes are told apart by their grey value alone


def test_dropped_files_keep_the_contract(tree_with_dropped_files):
    code = (
        f"import sys; sys.path.insert(0, {str(tree_with_dropped_files)!r})\n"
        "from pathlib import Path\n"
        "from mmbench.registry import find\n"
        "from mmbench.testing import check_dataset, check_method\n"
        "check_method(find('method', 'dropped')); check_dataset(find('dataset', 'stripes'), Path('.'))\n"
        "import mmbench; assert mmbench.__file__.startswith(sys.path[0]), mmbench.__file__\n"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_entry_holds_a_class_with_the_listed_title():
    for kind in ("method", "dataset"):
        for name, item in entries(kind).items():
            assert find(kind, name).title == item.title


def test_contracts_and_private_modules_are_no_entries():
    assert not {"method", "optim", "blocks"} & set(names("method"))
    assert set(names("dataset")) == {"potsdam", "synthetic", "vaihingen"}


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(UnknownNameError, match=r"unknown method 'shapsec'\. Did you mean 'shaspec'\?"):
        entry("method", "shapsec")
