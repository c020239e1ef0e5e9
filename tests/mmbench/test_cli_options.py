"""What the command line refuses before anything is opened, and files in place of names."""

import subprocess
import sys
from pathlib import Path

import pytest

from mmbench.cli import main

EXAMPLE = Path(__file__).parents[2] / "examples" / "my_rasters.py"
_METHOD = """
from mmbench_baselines.modality_dropout import ModalityDropout


class Mine(ModalityDropout):
    title = "Mine"
"""


@pytest.mark.parametrize(
    ("dataset", "option", "words"),
    [
        ("potsdam", 'keep_7_10="no"', "keep_7_10 is 'no'; input should be a valid boolean"),
        ("potsdam", "keep_7_10=1", "keep_7_10 is 1; input should be a valid boolean"),
        ("potsdam", "label_mode=x", "label_mode is 'x'; input should be 'six-class' or 'five-class'"),
        ("potsdam", "split=3", "split is 3; input should be a valid string"),
        ("synthetic", "seed=a", "seed is 'a'; input should be a valid integer"),
        ("synthetic", "seed=2001-99-99", "the value is not YAML"),
    ],
)
def test_an_option_of_another_type_is_refused_with_what_was_expected(capsys, dataset, option, words):
    assert main(["data", "check", dataset, "--dataset-option", option]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_a_key_that_stands_twice_is_refused(capsys, tmp_path):
    split = tmp_path / "s.yaml"
    split.write_text("train: [train_00]\ntrain: [train_01]\ntest: [test_00]\n")
    assert main(["data", "check", "synthetic", "--split-file", str(split)]) == 2
    assert "key 'train' stands twice" in capsys.readouterr().err


def _mmbench(*arguments):
    """Run in a process of its own: a file that is added stays known to its process."""
    return subprocess.run(
        [sys.executable, "-m", "mmbench", *map(str, arguments)], capture_output=True, text=True, check=False
    )


def test_a_method_and_a_dataset_may_be_files(tmp_path):
    file = tmp_path / "my_method.py"
    file.write_text(_METHOD)
    assert "my_rasters: My rasters" in _mmbench("info", EXAMPLE).stdout
    assert "my_method: Mine" in _mmbench("info", file).stdout
    done = _mmbench(
        *("run", "--methods", file, "--dataset", "synthetic", "--split", "small", "--recipe", "smoke"),
        *("--dataset-option", "tile_size=64", "--set", "training.steps=1", "--set", "training.window=32"),
        *("--set", "evaluation.window=32", "--results", tmp_path / "results", "--progress", "off"),
    )
    assert done.returncode == 0, done.stderr
    assert "my_method" in done.stdout
    missing = _mmbench("run", "--methods", tmp_path / "none.py", "--dataset", "synthetic")
    assert missing.returncode == 3
    assert "none.py" in missing.stderr


@pytest.mark.parametrize("verb", [[], ["data"]])
def test_without_a_verb_the_verbs_are_shown_and_nothing_is_called_an_error(capsys, verb):
    assert main(verb) == 2
    error = capsys.readouterr().err
    assert error.startswith("Usage: mmbench")
    assert "Commands:" in error
