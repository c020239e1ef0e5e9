"""The search for a learning rate: the same few short trainings for all, decided on validation tiles."""

import dataclasses
import json
import math

import pytest
import torch
from torch import nn

from mmbench import training
from mmbench.cells import Cell, Run, check_options, identity
from mmbench.cli import main
from mmbench.errors import CellFailedError, InvalidRecipeError
from mmbench.evaluation import Evaluator
from mmbench.execution import run_cell
from mmbench.recipe import SearchRecipe, load_recipe, recipe_names
from mmbench.search import search_learning_rate
from mmbench_baselines.method import Method, Output
from mmbench_baselines.optim import OptimizerParams

_RATES = (1e-3, 1e-2, 1e-1)
_SEARCH = "training.search={learning_rates: [1.0e-3, 1.0e-2], steps: 2}"


class Probe(Method):
    """A per-pixel classifier with dropout that cannot bear a large learning rate."""

    title = paper = source = "test"
    most = math.inf

    def __init__(self, modalities, num_classes, **options):
        super().__init__(modalities, num_classes, **options)
        self.head = nn.Sequential(nn.Dropout(0.5), nn.Conv2d(sum(modalities.values()), num_classes, 1))

    def forward(self, images, present):
        return Output(self.head(torch.cat(list(images.values()), 1)))

    def loss(self, output, batch):
        ce = nn.functional.cross_entropy(output.logits, batch.target, ignore_index=self.ignore_index)
        return {"ce": ce * math.nan if self.rate > self.most else ce}

    def configure_optimizers(self, params):
        self.rate = params.lr
        return super().configure_optimizers(params)


@pytest.fixture
def evaluator(small_dataset, normalizer, short_recipe):
    return Evaluator(small_dataset, normalizer, short_recipe.evaluation, torch.device("cpu"), "float32")


@pytest.fixture
def recipe(short_recipe):
    search = SearchRecipe(learning_rates=_RATES, steps=2)
    return short_recipe.training.model_copy(update={"search": search})


@pytest.fixture
def built(small_dataset):
    """The methods that were built, in order, and how."""
    methods = []

    def build():
        torch.manual_seed(0)
        methods.append(Probe(small_dataset.modalities, small_dataset.num_classes))
        return methods[-1]

    return methods, build


@pytest.fixture
def find_rate(small_dataset, normalizer, evaluator, built, recipe):
    def find(recipe=recipe):
        return search_learning_rate(built[1], small_dataset, normalizer, recipe, seed=0, evaluator=evaluator)

    return find


@pytest.fixture
def scored(monkeypatch):
    """Validation scores in the order of the trials."""

    def script(*scores):
        following = iter(scores)
        monkeypatch.setattr(Evaluator, "validation_miou", lambda self, method: next(following))

    return script


@pytest.mark.parametrize(
    ("scores", "place"),
    [((0.2, 0.6, 0.4), 1), ((0.2, 0.3, 0.4), 2), ((0.0, 0.0, 0.0), 0), ((0.1, 0.6, 0.6), 1)],
)
def test_the_best_on_validation_wins_and_of_equals_the_earlier(find_rate, scored, recipe, scores, place):
    scored(*scores)
    found, trials = find_rate()
    assert found.optimizer == dataclasses.replace(recipe.optimizer, lr=_RATES[place])
    assert found.search is None
    assert found.model_copy(update={"optimizer": recipe.optimizer, "search": recipe.search}) == recipe
    assert [(t.learning_rate, t.miou, t.steps, t.error) for t in trials] == [
        (rate, score, 2, "") for rate, score in zip(_RATES, scores, strict=True)
    ]
    assert [t.chosen for t in trials] == [i == place for i in range(3)]
    assert all(t.seconds >= 0 for t in trials)


def test_without_a_search_the_recipe_is_used_as_it_is_and_nothing_is_built(find_rate, built, recipe):
    plain = recipe.model_copy(update={"search": None})
    assert find_rate(plain) == (plain, [])
    assert built[0] == []


def test_a_rate_that_diverges_is_a_failed_trial_and_not_the_end(find_rate, monkeypatch):
    monkeypatch.setattr(Probe, "most", 5e-3)
    found, trials = find_rate()
    assert found.optimizer.lr == 1e-3
    assert [t.miou is None for t in trials] == [False, True, True]
    assert [t.chosen for t in trials] == [True, False, False]
    assert "loss is not finite at step 1" in trials[1].error


def test_if_every_rate_diverges_the_cell_fails_and_the_rates_are_named(find_rate, monkeypatch):
    monkeypatch.setattr(Probe, "most", 0.0)
    with pytest.raises(CellFailedError, match=r"every learning rate \(0.001, 0.01, 0.1\): loss is not"):
        find_rate()


def test_a_trial_is_a_training_of_its_own_length_with_the_recipes_other_settings(
    find_rate, built, small_dataset, normalizer, evaluator, recipe
):
    _, trials = find_rate()
    assert len(built[0]) == 3
    alone = recipe.model_copy(
        update={"search": None, "steps": 2, "optimizer": dataclasses.replace(recipe.optimizer, lr=1e-1)}
    )
    method = built[1]()
    result = training.train(method, small_dataset, normalizer, alone, seed=0, evaluator=evaluator)
    assert result.validation == [{"step": 2, "miou": trials[2].miou}]
    assert torch.equal(method.head[1].weight, built[0][2].head[1].weight)
    assert not torch.equal(method.head[1].weight, built[0][1].head[1].weight)


def test_training_after_a_search_is_training_with_that_rate_in_the_recipe(
    find_rate, built, small_dataset, normalizer, evaluator
):
    def train(found, method):
        training.train(method, small_dataset, normalizer, found, seed=0, evaluator=evaluator)
        return method.head[1].weight

    method = built[1]()
    found, _ = find_rate()
    after_search = train(found, method)
    assert torch.equal(after_search, train(found, built[1]()))


def test_trials_read_training_and_validation_tiles_and_never_test_tiles(
    find_rate, small_dataset, monkeypatch
):
    tiles, read = set(), small_dataset.read

    def spy(tile_id, *arguments, **keywords):
        tiles.add(tile_id)
        return read(tile_id, *arguments, **keywords)

    monkeypatch.setattr(small_dataset, "read", spy)
    find_rate()
    split = small_dataset.split
    assert set(split.val) <= tiles <= {*split.train, *split.val}
    assert tiles & set(split.train)


def test_progress_is_told_of_every_step_of_every_trial(built, small_dataset, normalizer, evaluator, recipe):
    told = []
    search_learning_rate(
        built[1],
        small_dataset,
        normalizer,
        recipe,
        seed=0,
        evaluator=evaluator,
        progress=lambda done, total, figures: told.append((done, total)),
    )
    assert told == [(1, 2), (2, 2)] * 3


# --- in a recipe ---


def test_only_the_ranked_recipe_searches_among_rates_around_its_own():
    searches = {name: load_recipe(name).training.search for name in recipe_names()}
    search = searches.pop("default")
    assert set(searches.values()) == {None}
    training_recipe = load_recipe("default").training
    low, usual, high = sorted(search.learning_rates)
    assert (usual, search.learning_rates[0]) == (training_recipe.optimizer.lr,) * 2
    assert usual / low == pytest.approx(high / usual, rel=0.2)
    assert len(search.learning_rates) * search.steps <= 0.15 * training_recipe.steps


@pytest.mark.parametrize(
    ("search", "words"),
    [
        ("{learning_rates: [1.0e-3, 1.0e-2]}", "key 'training.search.steps' is missing"),
        ("{learning_rates: [1.0e-3, 1.0e-2], steps: 2, stepz: 2}", "unknown key 'training.search.stepz'"),
        ("{learning_rates: [1.0e-3, 1.0e-2], steps: 0}", "training.search.steps is 0: .*or equal to 1"),
        ("{learning_rates: [1.0e-3], steps: 2}", "training.search.learning_rates is .*at least 2"),
        ("{learning_rates: [1.0e-3, 1.0e-3], steps: 2}", "training.search.learning_rates .*different rates"),
        ("{learning_rates: [1.0e-3, -1.0], steps: 2}", "training.search.learning_rates .*each > 0"),
        ("{learning_rates: [1.0e-3, .inf], steps: 2}", "training.search.learning_rates.1 is inf"),
        ("{learning_rates: [1.0e-3, fast], steps: 2}", "training.search.learning_rates.1 is 'fast'"),
        ("{learning_rates: [1.0e-2, 1.0e-1], steps: 2}", "training.search .*optimizer.lr, 0.001, among"),
        ("3", "training.search is 3"),
    ],
)
def test_a_wrong_search_is_named_by_its_key_in_one_line(search, words):
    with pytest.raises(InvalidRecipeError, match=words) as caught:
        load_recipe("smoke", [f"training.search={search}"])
    assert "\n" not in str(caught.value)


def test_a_search_is_refused_where_each_method_brings_its_own_rate():
    with pytest.raises(InvalidRecipeError, match=r'training.search .*null with optimizer "method"'):
        load_recipe("paper", [_SEARCH])


def test_a_rate_that_the_search_would_overrule_is_refused_and_one_without_a_search_is_taken():
    with pytest.raises(InvalidRecipeError, match=r"optimizer.lr, 0.1, among learning_rates, or null"):
        load_recipe("default", ["training.optimizer.lr=0.1"])
    plain = load_recipe("default", ["training.optimizer.lr=0.1", "training.search=null"])
    assert (plain.training.optimizer.lr, plain.training.search) == (0.1, None)
    assert isinstance(plain.training.optimizer, OptimizerParams)


# --- in a run ---


@pytest.fixture
def searching_run(small_dataset, short_recipe, tmp_path):
    search = SearchRecipe(learning_rates=(1e-3, 1e-2), steps=2)
    trained = short_recipe.training.model_copy(update={"search": search})
    recipe = short_recipe.model_copy(update={"training": trained})
    return Run("synthetic", small_dataset, recipe, torch.device("cpu"), tmp_path)


_CELL = Cell("modality_dropout", 0)


def test_a_record_holds_the_trials_and_training_had_the_chosen_rate(searching_run, scored):
    scored(0.1, 0.2, 0.3)  # two trials, then the training
    record = run_cell(searching_run, _CELL)
    assert record.status == "done", record.error
    trials = json.loads(record.model_dump_json())["training"]["trials"]
    assert [(t["learning_rate"], t["miou"], t["chosen"]) for t in trials] == [
        (1e-3, 0.1, False),
        (1e-2, 0.2, True),
    ]
    assert record.training["curve"][0]["lr"] == 1e-2
    assert record.training["steps"] == 3
    assert record.training["samples"] == 6  # of the training alone


def test_a_record_without_a_search_holds_no_trials(searching_run):
    recipe = searching_run.recipe
    plain = recipe.model_copy(update={"training": recipe.training.model_copy(update={"search": None})})
    assert run_cell(dataclasses.replace(searching_run, recipe=plain), _CELL).training["trials"] == []


def test_a_cell_of_which_every_trial_fails_is_a_failed_record_that_says_so(searching_run, monkeypatch):
    def fail(self, method):
        raise CellFailedError("logits are not finite on tile t")

    monkeypatch.setattr(Evaluator, "validation_miou", fail)
    record = run_cell(searching_run, _CELL)
    assert record.error["kind"] == "method"
    assert "every learning rate (0.001, 0.01): logits are not finite" in record.error["message"]


def test_the_search_is_part_of_the_identity(searching_run):
    def with_search(search):
        trained = searching_run.recipe.training.model_copy(update={"search": search})
        recipe = searching_run.recipe.model_copy(update={"training": trained})
        return json.dumps(identity(dataclasses.replace(searching_run, recipe=recipe), _CELL))

    kinds = [
        None,
        SearchRecipe(learning_rates=(1e-3, 1e-2), steps=2),
        SearchRecipe(learning_rates=(1e-3, 1e-2), steps=3),
        SearchRecipe(learning_rates=(1e-3, 2e-2), steps=2),
    ]
    assert len({with_search(search) for search in kinds}) == len(kinds)


def test_a_split_without_validation_tiles_is_refused_by_the_check_of_options(
    searching_run, small_dataset, monkeypatch
):
    monkeypatch.setattr(small_dataset, "split", dataclasses.replace(small_dataset.split, val=()))
    with pytest.raises(InvalidRecipeError, match=r"training.search decides on validation tiles and split"):
        check_options(searching_run.recipe, ["modality_dropout"], small_dataset)
    recipe = searching_run.recipe
    plain = recipe.model_copy(update={"training": recipe.training.model_copy(update={"search": None})})
    check_options(plain, ["modality_dropout"], small_dataset)


_SHORT = (
    *("-d", "synthetic", "-r", "smoke", "--dataset-option", "tile_size=128", "--device", "cpu"),
    *("--set", "training.steps=2", "--set", "training.window=64", "--set", "training.batch_size=2"),
    *("--set", "evaluation.window=64", "--set", "methods.modality_dropout.base_width=8"),
    *("--set", _SEARCH),
)


@pytest.mark.parametrize("verb", ["run", "plan", "train"])
def test_no_verb_starts_a_search_without_validation_tiles(verb, small_dataset, tmp_path, capfd):
    split = tmp_path / "mine.yaml"
    train, test = list(small_dataset.split.train), list(small_dataset.split.test)
    split.write_text(json.dumps({"train": train, "val": [], "test": test}))
    out = tmp_path / "out"
    where = ["modality_dropout", "--out", out] if verb == "train" else ["-m", "all", "--results", out]
    code = main([verb, *map(str, where), *_SHORT, "--split-file", str(split)])
    err = capfd.readouterr().err
    assert code == 2
    assert "training.search" in err
    assert "started" not in err
    assert not out.exists()


def test_train_says_which_rates_it_tried_and_which_it_took(tmp_path, capfd):
    weights = tmp_path / "w.safetensors"
    code = main(["train", "modality_dropout", "--out", str(weights), "--split", "small", *_SHORT])
    out, err = capfd.readouterr()
    assert code == 0, err
    lines = [line for line in out.splitlines() if line.startswith("learning rate")]
    assert [line.split(":")[0] for line in lines] == ["learning rate 0.001", "learning rate 0.01"]
    assert all("on validation tiles after 2 steps" in line for line in lines)
    assert sum(line.endswith(", chosen") for line in lines) == 1
