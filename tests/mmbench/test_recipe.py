"""Recipes are strict, and say in one line what is wrong."""

import pytest
import yaml

from mmbench.errors import InvalidRecipeError, UnknownNameError
from mmbench.recipe import load_recipe, recipe_names


@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_is_valid_and_named_like_its_file(name):
    assert load_recipe(name).name == name


def test_the_shipped_recipes_are_those_documented_and_only_default_is_ranked():
    assert recipe_names() == ["default", "laptop", "paper", "smoke"]
    assert [name for name in recipe_names() if load_recipe(name).ranked] == ["default"]


def test_default_treats_all_methods_alike_and_paper_follows_each_paper():
    default, paper = load_recipe("default").training, load_recipe("paper").training
    assert default.patterns == "protocol"
    assert "method" not in (default.optimizer, default.schedule, default.accumulation)
    assert (paper.patterns, paper.optimizer, paper.schedule, paper.accumulation) == ("method",) * 4


def test_no_shipped_recipe_changes_the_light_and_an_override_may():
    assert {load_recipe(name).training.photometric for name in recipe_names()} == {0.0}
    assert load_recipe("smoke", ["training.photometric=0.5"]).settings()["training"]["photometric"] == 0.5


def test_an_override_changes_one_key_and_takes_the_ranking_away():
    changed = load_recipe(
        "default", ["training.steps=7", "training.search=null", "training.optimizer.lr=0.1"]
    )
    assert changed.training.steps == 7
    assert changed.training.optimizer.lr == 0.1
    assert changed.training.batch_size == load_recipe("default").training.batch_size
    assert not changed.ranked
    assert changed.name == "default (changed)"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("training.stepz=7", "unknown key 'training.stepz'"),
        ("training.steps=many", "training.steps is 'many'"),
        ("training.steps=true", "training.steps is True"),
        ("training.optimizer.lr=-1", "expected lr > 0"),
        ("training.schedule.period=0", "expected period >= 1"),
        ("training.Optimizer=adam", "unknown key 'training.Optimizer'"),
        ("training.steps=0", "training.steps is 0: .*greater than or equal to 1"),
        ("training.optimizer.learning_rate=1", "unknown key 'training.optimizer.learning_rate'"),
        ("training.accumulation=0", "expected at least 1"),
        ("evaluation.overlap=1.0", "evaluation.overlap is 1.0"),
        ("training.photometric=0.6", "training.photometric is 0.6: .*less than or equal to 0.5"),
        ("training.photometric=-0.1", "training.photometric is -0.1: .*greater than or equal to 0"),
        ("training.photometric=.nan", "training.photometric is nan"),
        ("training.photometric=strong", "training.photometric is 'strong'"),
        ("training.photometric=true", "training.photometric is True"),
        ("training", "expected key=value"),
        ("name.x=1", "'name' is not a group of keys"),
        ("training.steps=[", "not YAML"),
    ],
)
def test_a_wrong_override_is_named_in_one_line(override, words):
    with pytest.raises(InvalidRecipeError, match=words) as caught:
        load_recipe("smoke", [override])
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_missing_key_of_a_file_is_named(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\ndescription: x\nranked: false\ntraining: {steps: 3}\n")
    with pytest.raises(InvalidRecipeError, match=r"key 'training.batch_size' is missing"):
        load_recipe(str(path))


@pytest.mark.parametrize("content", ["[1, 2]", "a: [", "", "\x00"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path, content):
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    with pytest.raises(InvalidRecipeError, match=r"mine\.yaml"):
        load_recipe(str(path))


@pytest.mark.parametrize("name", ["smokey", "nowhere.yaml"])
def test_an_unknown_recipe_is_code_3(name):
    with pytest.raises(UnknownNameError, match="unknown recipe") as caught:
        load_recipe(name)
    assert caught.value.exit_code == 3


def test_a_copy_of_the_ranked_recipe_is_not_ranked_and_cannot_pass_for_it(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(load_recipe("default").model_dump(mode="json")))
    copy = load_recipe(str(path))
    assert copy.training == load_recipe("default").training
    assert (copy.name, copy.ranked) == ("default (mine.yaml)", False)


@pytest.mark.parametrize("word", ["off", "no", "n", "On", "yes"])
def test_a_word_that_old_yaml_takes_for_a_truth_value_is_a_word(word):
    recipe = load_recipe("laptop", [f"methods.gemmnet.transformer={word}"])
    assert recipe.methods["gemmnet"]["transformer"] == word
    assert load_recipe("laptop", ["methods.gemmnet.x=true"]).methods["gemmnet"]["x"] is True
