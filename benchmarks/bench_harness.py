"""Training windows per second, memory of 38 open tiles, seconds of a whole-tile evaluation without a model.

The tiles have the true size and format of Potsdam, 6000 x 6000 pixels and uncompressed, and show a synthetic
town again and again. Everything lies in pytest's temporary folder, under 2 GB, and is removed at the end.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time

import imagecodecs
import numpy as np
import psutil
import pytest
import tifffile
import torch

from mmbench.datasets._dataset import TEST_LABELS
from mmbench.datasets._prepared.dataset import open_prepared, prepare
from mmbench.datasets._synthesis import write_isprs_folder
from mmbench.datasets.potsdam import Potsdam
from mmbench.evaluation import Evaluator
from mmbench.loading import RandomCrops, training_batches
from mmbench.recipe import EvaluationRecipe
from mmbench.transforms import fit_normalizer
from mmbench_baselines.method import Method, Output

SIDE, SMALL, WINDOW, BATCH = 6000, 500, 512, 8
PHOTOMETRIC = 0.1
TILES = {"train": ["2_10", "6_9"], "test": ["2_13"]}
READ = ("RGBIR.tif", "normalized_lastools.jpg", "label.tif", "label_noBoundary.tif")


def _enlarge(small, large):
    """Write the content of a small picture, repeated to the true size and uncompressed."""
    jpeg = small.suffix == ".jpg"
    picture = imagecodecs.jpeg8_decode(small.read_bytes()) if jpeg else tifffile.imread(small)
    picture = np.tile(picture, (SIDE // SMALL, SIDE // SMALL, *(1,) * (picture.ndim - 2)))
    large.parent.mkdir(parents=True, exist_ok=True)
    if jpeg:
        large.write_bytes(imagecodecs.jpeg8_encode(picture, level=98))
    else:
        extra = ["unspecified"] * (picture.shape[2] - 3)
        tifffile.imwrite(large, picture, photometric="rgb", planarconfig="contig", extrasamples=extra)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with `potsdam`, three tiles and a split file, that is removed after the last benchmark."""
    place = tmp_path_factory.mktemp("harness")
    write_isprs_folder("potsdam", place / "small", size=SMALL, tiles=[*TILES["train"], *TILES["test"]])
    for small in (place / "small").rglob("*"):
        if small.name.endswith(READ) and small.parent.name != "5_Labels_all":
            _enlarge(small, place / "potsdam" / small.relative_to(place / "small"))
    (place / "split.yaml").write_text(json.dumps(TILES))
    yield place
    shutil.rmtree(place)


@pytest.fixture(scope="module")
def datasets(place):
    """The three tiles, read from the files and from prepared pixels."""
    dataset = Potsdam(root=place / "potsdam", split=place / "split.yaml")
    prepare(dataset, "potsdam", place / "cache")
    return {"files": dataset, "cache": open_prepared(dataset, "potsdam", place / "cache")}


@pytest.fixture(scope="module")
def normalizer(datasets):
    return fit_normalizer(datasets["cache"])


def _say(capsys, benchmark, **figures):
    """Keep figures with the benchmark and show them: the table has no column for them."""
    benchmark.extra_info.update(figures)
    with capsys.disabled():
        words = ", ".join(f"{name} {value:,.1f}" for name, value in figures.items())
        print(f"\n{benchmark.name}: {words} (load {os.getloadavg()[0]:.1f})")


def _cpu_seconds():
    """CPU time of this process and of the reading processes that are alive."""
    own = psutil.Process()
    times = [process.cpu_times() for process in (own, *own.children(recursive=True))]
    return sum(time.user + time.system for time in times)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("source", ["cache", "files"])
def test_training_windows(benchmark, capsys, datasets, normalizer, source, workers):
    """Random crops, quarter turns, flips, light; a few batches more are in flight before and after."""
    benchmark.group = f"training windows of {WINDOW}, batches of {BATCH}"
    count = 60
    batches, cpu_seconds = None, []

    def start():
        nonlocal batches
        crops = RandomCrops(
            datasets[source],
            normalizer,
            window=WINDOW,
            count=BATCH * (count + 20),
            seed=0,
            photometric=PHOTOMETRIC,
        )
        batches = training_batches(crops, batch_size=BATCH, workers=workers)
        for _ in range(8):  # every process has opened the tiles
            next(batches)

    def take():
        before = _cpu_seconds()
        for _ in range(count):
            next(batches)
        cpu_seconds.append(_cpu_seconds() - before)

    benchmark.pedantic(take, setup=start, rounds=3)
    windows = BATCH * count
    _say(
        capsys,
        benchmark,
        windows_per_s=windows / benchmark.stats.stats.min,
        cpu_ms_per_window=min(cpu_seconds) / windows * 1000,
    )


MEMORY = """
import json, sys
import numpy as np, psutil
from pathlib import Path
from mmbench.datasets._dataset import Window
from mmbench.datasets._prepared.dataset import PreparedDataset
from mmbench.datasets._prepared.stored_array import StoredArray
from mmbench.datasets.potsdam import Potsdam

root, arrays, reads, side = Path(sys.argv[1]), sys.argv[2:-2], int(sys.argv[-2]), int(sys.argv[-1])
dataset = Potsdam(root=root, keep_7_10=True)
if arrays:
    stored = {Path(path).stem: StoredArray.open(Path(path)) for path in arrays}
    dataset = PreparedDataset(dataset, dict.fromkeys(dataset.split.tiles, stored))
process, rng = psutil.Process(), np.random.default_rng(0)
before, anonymous = process.memory_info(), 0
tiles = dataset.split.tiles
for n in range(reads):
    tile = tiles[n] if n < len(tiles) else tiles[rng.integers(len(tiles))]
    height, width = dataset.size(tile)
    top, left = rng.integers(height - side), rng.integers(width - side)
    dataset.read(tile, Window(int(top), int(left), side, side), labels=dataset.split.labels_of(tile))
    now = process.memory_info()
    anonymous = max(anonymous, now.rss - now.shared)
status = Path("/proc/self/status").read_text()
peak = int(status.split("VmHWM:")[1].split()[0]) * 1024  # the peak of this process alone, within reads too
print(json.dumps({
    "tiles": len(tiles),
    "rss_growth_MiB": (peak - before.rss) / 2**20,
    "anonymous_growth_MiB": (anonymous - before.rss + before.shared) / 2**20,
}))
"""


def _link_all_tiles(folder, root):
    """Make hard links to the pictures of two tiles under the names of all 38: they take no room on disk."""
    for kind, given in (("rgbir", "2_10"), ("ndsm_lastools", "2_10"), ("full", "2_10"), ("eroded", "2_13")):
        source = Potsdam.sources[kind]
        picture = next(folder.rglob(source.path(given).name))
        for tile in Potsdam(keep_7_10=True).split.tiles:
            link = root / source.path(tile)
            link.parent.mkdir(parents=True, exist_ok=True)
            os.link(picture, link)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the peak of a process")
@pytest.mark.parametrize("source", ["cache", "files"])
def test_memory_of_38_open_tiles(benchmark, capsys, place, datasets, source):
    """A process cannot tell that the tiles are hard links, or prepared once for all: it opens each by itself.

    The growth of resident memory is its peak less what it was before the first tile was opened.
    """
    benchmark.group = "38 tiles of 6000 x 6000 read at random windows, in a fresh process"
    root = place / f"all-{source}"
    _link_all_tiles(place / "potsdam", root)
    prepared = (place / "cache").glob("*/tile-2_10/*/*.npy") if source == "cache" else ()
    reads = 400 if source == "cache" else 76
    command = [sys.executable, "-c", MEMORY, root, *prepared, reads, WINDOW]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}

    def run():
        done = subprocess.run(
            list(map(str, command)), check=True, capture_output=True, text=True, env=environment
        )
        return json.loads(done.stdout)

    _say(capsys, benchmark, reads=reads, **benchmark.pedantic(run, rounds=1))


class Constant(Method):
    """Returns the same logits whatever it is given: what is left is the harness."""

    title = paper = source = "benchmark"

    def __init__(self, modalities, num_classes):
        super().__init__(modalities, num_classes)
        self.logits = torch.randn(BATCH, num_classes, WINDOW, WINDOW)

    def forward(self, images, present):
        return Output(self.logits[: len(present)])

    def loss(self, output, batch):
        raise NotImplementedError


@pytest.mark.parametrize("source", ["cache", "files"])
def test_whole_tile_evaluation(benchmark, capsys, datasets, normalizer, source):
    """Reading, stitching with 50 % overlap and counting one tile, for each of three scenarios."""
    benchmark.group = "evaluation of a 6000 x 6000 tile under three scenarios, model excluded"
    dataset = datasets[source]
    recipe = EvaluationRecipe(window=WINDOW, overlap=0.5, batch_size=BATCH)
    evaluator = Evaluator(dataset, normalizer, recipe, torch.device("cpu"))
    method = Constant(dataset.modalities, dataset.num_classes)
    ends = []

    def evaluate():
        ends.append(time.perf_counter())
        evaluator.confusions(method, "test", TEST_LABELS, lambda *_: ends.append(time.perf_counter()))

    benchmark.pedantic(evaluate, rounds=1)
    seconds = np.diff(ends)
    _say(capsys, benchmark, best_s_per_tile=float(seconds.min()), mean_s_per_tile=float(seconds.mean()))
