"""Any text and any structure as split file or recipe: what it says, or one line of what is wrong with it."""

import json

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mmbench.datasets._dataset import Split, read_split_file
from mmbench.datasets.potsdam import Potsdam
from mmbench.errors import InvalidRecipeError
from mmbench.recipe import Recipe, load_recipe

MOST_WORDS = 2000
"""Letters of a message that somebody still reads."""

BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{now}: &{now} [{','.join([f'*{before}'] * 9)}]\n"
    for before, now in zip("abcdef", "bcdefg", strict=True)
)
"""Grows to 9**7 words when it is written out."""

HOSTILE = {
    "deep": "train: " + "[" * 900,
    "deep and whole": "train: " + "[" * 900 + "]" * 900 + "\ntest: [2_10]",
    "a bomb as tiles": BOMB + "train: *g\ntest: *g",
    "a bomb": BOMB,
    "itself": "train: &a [*a]\ntest: [2_10]",
    "itself in a mapping": "&a {train: *a, test: *a}",
    "no date": "train: [2001-99-99]\ntest: 2001-99-99\nname: 2001-99-99",
    "no number": "train: [!!int x]\ntest: !!float y\nname: !!int ''",
    "no truth": "name: !!bool x\ntrain: !!bool y",
    "no time": "name: !!timestamp x",
    "long number": "name: " + "1" * 5000,
    "python": "name: !!python/object/apply:os.getcwd []\ntrain: [a]",
    "set": "training: !!set {a, b}",
    "bytes as a key": "!!binary aGFsbG8=: 1",
    "list as a key": "? [a, b]\n: c",
    "date as a key": "2001-01-01: 1",
    "line break in a key": '"training\\nx": 1\nmethods: {"a\\nb": 1}',
    "half a letter": 'train: ["\\ud800"]\ntest: ["\\ud800x"]\nname: "\\ud800"\ndescription: "\\ud800"',
    "not finite": "training: {gradient_clip: .nan, photometric: .inf, steps: -.inf}",
    "not finite for an optimizer": "{name: m, description: x, ranked: no, training: {steps: 2, window: 64, "
    "batch_size: 1, optimizer: {lr: .nan, betas: [.nan, .inf]}, schedule: {}, patterns: method}}",
    "nul": "train: [\0]",
    "tab": "\ttrain: a",
    "two documents": "train: [a]\n---\ntest: [b]",
    "empty": "",
    "nothing": "~",
    "mark of byte order": "\ufefftrain: [2_10]\ntest: [2_11]",
}
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.dates(),
    st.binary(max_size=4),
    st.sampled_from(["2_10", "02_10", "7_10", "", "train", "method", "adamw"]),
)


def structures(keys):
    """Draw what YAML can hold, with some keys that mean something."""
    key = st.one_of(st.sampled_from(keys), st.text(max_size=5), st.integers(), st.none())
    return st.recursive(
        SCALARS,
        lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(key, inner, max_size=5)),
        max_leaves=12,
    )


def check_words(error, start):
    """Look at a message as a person who has to mend the file does."""
    words = str(error)
    assert words.startswith(start)
    assert len(words.splitlines()) == 1
    assert len(words) < MOST_WORDS
    words.encode()  # half a letter cannot be printed


def check_split(path):
    try:
        split = read_split_file(path)
    except InvalidRecipeError as error:
        check_words(error, f"split file {path}: ")
    else:
        assert isinstance(split, Split)
        assert all(isinstance(tile, str) for tile in split.tiles)
        assert split.train
        assert split.test
    try:
        assert {*Potsdam(root=path.parent, split=path).tiles} <= {*Potsdam.splits["official"].tiles}
    except InvalidRecipeError as error:
        check_words(error, f"split file {path}: ")


def check_recipe(path):
    try:
        recipe = load_recipe(str(path))
    except InvalidRecipeError as error:
        check_words(error, f"recipe {path}: ")
    else:
        assert isinstance(recipe, Recipe)
        json.dumps(recipe.model_dump(), default=str, allow_nan=False)


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("check", [check_split, check_recipe])
def test_a_hostile_text_is_read_or_refused_in_one_line(check, name, tmp_path):
    path = tmp_path / "t.yaml"
    path.write_text(HOSTILE[name], encoding="utf-8")
    check(path)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_value_of_a_key_is_refused_in_one_line(name):
    try:
        load_recipe("smoke", [f"training.steps={HOSTILE[name]}"])
    except InvalidRecipeError as error:
        check_words(error, "")


@pytest.mark.parametrize("check", [check_split, check_recipe])
def test_any_bytes_are_read_or_refused_in_one_line(check, tmp_path):
    starts = st.sampled_from(
        [b"", b"train: [2_10]\ntest: ", b"{", b"training: ", b"&a ", b"!!int ", b"\xff\xfe"]
    )

    @settings(max_examples=150)
    @given(starts, st.one_of(st.binary(max_size=30), st.text(max_size=30).map(str.encode)))
    def run(start, rest):
        (tmp_path / "t.yaml").write_bytes(start + rest)
        check(tmp_path / "t.yaml")

    run()


@pytest.mark.parametrize(
    ("check", "keys"),
    [
        (check_split, ["train", "val", "test"]),
        (
            check_recipe,
            ["name", "description", "ranked", "training", "evaluation", "methods", "steps", "optimizer"],
        ),
    ],
)
def test_any_structure_is_read_or_refused_in_one_line(check, keys, tmp_path):
    @settings(max_examples=200)
    @given(structures(keys))
    def run(content):
        (tmp_path / "t.yaml").write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
        check(tmp_path / "t.yaml")

    run()


@settings(max_examples=100)
@given(st.dictionaries(st.sampled_from(["train", "val", "test"]), structures(["2_10", "7_10"]), min_size=2))
def test_a_split_with_any_content_in_its_roles_is_read_or_refused_in_one_line(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "roles.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    check_split(path)


@settings(max_examples=100)
@given(
    st.lists(
        st.lists(st.sampled_from(["2_10", "2_11", "3_10", "x y", "1"]), max_size=3), min_size=3, max_size=3
    )
)
def test_a_split_of_lists_of_ids_is_read_as_it_stands_or_has_a_tile_twice_or_none(tmp_path_factory, roles):
    path = tmp_path_factory.getbasetemp() / "lists.yaml"
    path.write_text(yaml.safe_dump(dict(zip(("train", "val", "test"), roles, strict=True))), encoding="utf-8")
    tiles = [tile for role in roles for tile in role]
    if len(set(tiles)) == len(tiles) and roles[0] and roles[2]:
        assert read_split_file(path) == Split(*map(tuple, roles))
    else:
        with pytest.raises(InvalidRecipeError, match=r"a tile has one role|at least one is needed"):
            read_split_file(path)


BASE = {
    "name": "mine",
    "description": "x",
    "ranked": False,
    "training": {
        "steps": 2,
        "batch_size": 1,
        "window": 64,
        "optimizer": {"name": "adamw", "lr": 0.001, "weight_decay": 0.01},
        "schedule": {"name": "poly"},
        "patterns": "protocol",
    },
}


@settings(max_examples=200)
@given(st.sampled_from([(), ("training",), ("training", "optimizer"), ("training", "schedule")]), st.data())
def test_a_recipe_with_any_value_in_one_place_is_read_or_refused_in_one_line(tmp_path_factory, place, data):
    content = yaml.safe_load(yaml.safe_dump(BASE))
    group = content
    for key in place:
        group = group[key]
    key = data.draw(
        st.one_of(st.sampled_from([*group, "evaluation", "methods", "precision", "gradient_clip"]))
    )
    group[key] = data.draw(structures(["window", "overlap", "name", "lr", "gemmnet"]))
    path = tmp_path_factory.getbasetemp() / "recipe.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    check_recipe(path)
