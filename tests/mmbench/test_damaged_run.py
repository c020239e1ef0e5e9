"""A run that meets a damaged file: one line, a documented code, and nothing lost that was computed."""

import subprocess
import sys

import pytest
import tifffile

from mmbench.cli import main
from mmbench.datasets._synthesis import write_isprs_folder

TILES = ("2_10", "6_9", "2_13")


@pytest.fixture
def damaged(tmp_path):
    """Write three tiles with one damaged picture, over which tifffile complains; return the file."""
    root = tmp_path / "potsdam"
    write_isprs_folder("potsdam", root, size=64, tiles=TILES)
    (tmp_path / "split.yaml").write_text("train: [{}]\nval: [{}]\ntest: [{}]\n".format(*TILES))
    path = root / "4_Ortho_RGBIR/top_potsdam_6_9_RGBIR.tif"
    tifffile.imwrite(
        path, tifffile.imread(path), compression="lzw", rowsperstrip=5, photometric="rgb", extrasamples=[0]
    )
    with tifffile.TiffFile(path, mode="r+b") as file:
        file.pages[0].tags["StripOffsets"].overwrite(list(file.pages[0].dataoffsets[:-3]))
    return path


def test_a_damaged_file_ends_a_run_with_one_line_and_code_4(damaged, tmp_path):
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mmbench", "run", "-m", "modality_dropout", "--dataset", "potsdam"),
            *("--root", tmp_path / "potsdam", "--split-file", tmp_path / "split.yaml", "-r", "smoke"),
            *("--device", "cpu", "--results", tmp_path / "results"),
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 4
    lines = [line for line in done.stderr.splitlines() if not line.startswith("1 cell: ")]
    assert len(lines) == 1
    assert lines[0].startswith(f"error: {damaged}: cannot be read (its header lists 10 parts, expected 13)")
    assert done.stdout == ""
    assert not [*(tmp_path / "results").glob("*.json")]


def test_a_damaged_file_costs_no_record_that_is_there(damaged, tmp_path, capfd):
    whole = tifffile.imread(tmp_path / "potsdam/4_Ortho_RGBIR/top_potsdam_2_10_RGBIR.tif")
    content = damaged.read_bytes()
    tifffile.imwrite(damaged, whole, photometric="rgb", extrasamples=[0])
    arguments = [
        *(
            "run",
            "-m",
            "modality_dropout",
            "-d",
            "potsdam",
            "--root",
            str(tmp_path / "potsdam"),
            "-r",
            "smoke",
        ),
        *(
            "--split-file",
            str(tmp_path / "split.yaml"),
            "--device",
            "cpu",
            "--results",
            str(tmp_path / "results"),
        ),
        *("--set", "training.steps=1", "--set", "training.window=64", "--set", "evaluation.window=64"),
        *("--set", "methods.modality_dropout.base_width=8", "--no-cache"),
    ]
    assert main(arguments) == 0
    kept = {path.name: path.read_bytes() for path in (tmp_path / "results").iterdir()}
    damaged.write_bytes(content)
    assert main([*arguments, "--seeds", "0,1"]) == 4
    assert {path.name: path.read_bytes() for path in (tmp_path / "results").iterdir()} == kept
    assert capfd.readouterr().err.count("error: ") == 1
