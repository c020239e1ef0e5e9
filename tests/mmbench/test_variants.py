"""Variants: a name behind a method's name stands for options, in the plan, the record and the table."""

import pytest
import torch

from mmbench.cells import Cell, Run, check_options, identity, state, with_variants
from mmbench.cli import main
from mmbench.errors import UnknownNameError
from mmbench.execution import build_method, run_cell
from mmbench.recipe import load_recipe
from mmbench.registry import find, key, names
from mmbench.reporting.leaderboard import leaderboards

_TINY = [
    *("training.steps=1", "training.window=64", "training.batch_size=1", "evaluation.window=64"),
    "methods.shaspec={width: 16}",
]


@pytest.fixture
def run_of(small_dataset, tmp_path):
    def make(*methods, overrides=()):
        recipe = with_variants(load_recipe("smoke", [*_TINY, *overrides]), list(methods))
        check_options(recipe, list(methods), small_dataset)
        return Run("synthetic", small_dataset, recipe, torch.device("cpu"), tmp_path)

    return make


@pytest.mark.parametrize("name", names("method"))
def test_every_variant_of_a_method_can_be_built(name):
    method_class = find("method", name)
    for options in method_class.variants.values():
        with torch.device("meta"):
            method_class({"a": 3, "b": 1}, 6, **options)


def test_a_variants_options_come_over_the_methods_and_under_its_own(run_of):
    plain = run_of("mmformer", "mmformer:small", overrides=["methods.mmformer={train_size: 64, heads: 4}"])
    assert plain.recipe.methods["mmformer"] == {"train_size": 64, "heads": 4}
    small = {"train_size": 64, "heads": 4, "token_width": 256, "hidden_width": 512}
    assert plain.recipe.methods["mmformer:small"] == small
    own = run_of("mmformer:small", overrides=["methods={'mmformer:small': {token_width: 64}}"])
    assert own.recipe.methods["mmformer:small"] == {"token_width": 64, "hidden_width": 512}
    assert build_method(own, Cell("mmformer:small", 0)).variants is find("method", "mmformer").variants


def test_a_variant_is_the_method_with_these_options_and_another_cell_than_the_method(run_of):
    run = run_of("shaspec", "shaspec:small")
    variant, method = Cell("shaspec:small", 0), Cell("shaspec", 0)
    explicit = run_of("shaspec", overrides=["methods.shaspec={width: 32}"])
    assert identity(run, variant) == identity(explicit, method) != identity(run, method)
    assert identity(run, variant)["method"]["name"] == "shaspec"


def test_a_variant_has_a_record_and_a_row_of_its_own(run_of):
    run = run_of("shaspec", "shaspec:small")
    records = [run_cell(run, Cell(name, 0)) for name in ("shaspec", "shaspec:small")]
    assert [record.method["variant"] for record in records] == ["", "small"]
    assert records[0].method["parameters"] < records[1].method["parameters"]
    (board,) = leaderboards(records)
    assert sorted(row.label for row in board.rows) == ["shaspec (width=16)", "shaspec:small (width=32)"]
    assert state(run, Cell("shaspec:small", 0)).kind == "done"
    changed = run_of("shaspec", "shaspec:small", overrides=["training.batch_size=2"])
    assert state(changed, Cell("shaspec:small", 0)).kind == "stale"
    assert "batch_size" in state(changed, Cell("shaspec:small", 0)).reason
    assert state(changed, Cell("mmformer:skip", 0)).kind == "missing"


def test_an_unknown_variant_is_refused_with_those_there_are(run_of, capsys):
    with pytest.raises(UnknownNameError, match=r"unknown variant of shaspec 'smal'\. Did you mean 'small'"):
        run_of("shaspec:smal")
    assert main(["run", "-m", "gemmnet:small", "-d", "synthetic", "-r", "smoke"]) == 3
    assert (
        capsys.readouterr().err
        == "error: unknown variant of gemmnet 'small'. There is none. (mmbench info gemmnet)\n"
    )


def test_a_variant_of_a_file_of_ones_own_is_understood(tmp_path, monkeypatch):
    added = []
    monkeypatch.setattr("mmbench.registry.add_file", lambda kind, path: added.append(path) or path.stem)
    assert key("method", f"{tmp_path}/mine.py:small") == "mine:small"
    assert key("method", "mmformer:small") == "mmformer:small"
    assert added == [tmp_path / "mine.py"]


def test_a_dataset_has_no_variants():
    assert main(["data", "check", "synthetic:small"]) == 3


def test_the_expert_of_each_subset_is_a_variant():
    recipe = with_variants(load_recipe("laptop"), ["unimodal:irrg"])
    assert recipe.methods["unimodal:irrg"] == {"subset": "irrg"}
    assert main(["plan", "-m", "unimodal:red", "-d", "synthetic", "-r", "laptop"]) == 2


def test_the_card_of_a_variant_is_that_of_its_method(capsys):
    assert main(["info", "mmformer"]) == 0
    card = capsys.readouterr().out
    assert main(["info", "mmformer:small"]) == 0
    assert capsys.readouterr().out == card
    assert main(["info", "mmformer:smal"]) == 3


@pytest.mark.parametrize(
    "option",
    [
        *("ae.norm=layer", "ae.generator_width=0", "gemmnet.discriminator_width=0", "gemmnet.base_width=-1"),
        *("gemmnet.init=xavier", "gemmnet.dropout=abc", "mmformer.depth=0", "mmformer.hidden_width=0"),
    ],
)
def test_a_value_that_cannot_be_built_is_an_invalid_recipe(option, capsys):
    method = option.partition(".")[0]
    assert main(["plan", "-m", method, "-d", "synthetic", "-r", "laptop", "--set", f"methods.{option}"]) == 2
    assert f"methods.{method}: " in capsys.readouterr().err
