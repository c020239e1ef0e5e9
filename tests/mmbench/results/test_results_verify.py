"""Records from elsewhere are believed only as far as their matrices, recipes and proofs go."""

import json
import os
import pickle
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmbench.cli import main
from mmbench.recipe import load_recipe
from mmbench.records import read_record
from mmbench.registry import Entry, entries
from mmbench.results import files
from mmbench.results.matrices import read_matrices
from mmbench.results.ranking import why_not_ranked
from mmbench.results.verification import SoundRecord, verify, verify_record


def _set(*keys, value):
    """Return a change that puts a value at nested keys."""

    def change(content):
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = value

    return change


def _fail(content, kind="method"):
    content |= {
        "status": "failed",
        "scenarios": {},
        "no_peek": [],
        "training": {},
        "error": {"kind": kind, "message": "no luck"},
    }


def _claim_default(content, settings=None):
    """Claim to be of the ranked recipe."""
    recipe = load_recipe("default")
    content |= {"recipe_name": "default", "ranked": True}
    content["identity"]["recipe"] = settings or recipe.settings()


def test_stored_records_are_sound_and_so_is_a_failed_one(foreign):
    paths = [foreign.add(0), foreign.add(1), foreign.add(2, _fail)]
    found = verify([foreign.folder])
    assert [record.path for record in found.records] == sorted(paths)
    assert (found.problems, found.foreign) == ((), ())
    assert sorted(record.done for record in found.records) == [False, True, True]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_set("scenarios", "full", "miou", value=0.99), "'full': miou is 0.99; its matrices give"),
        (_set("scenarios", "ndsm", "oa", value=None), "'ndsm': oa is None"),
        (_set("scenarios", "irrg", "kappa", value=True), "'irrg': kappa is True"),
        (lambda c: c["scenarios"]["full"]["iou"].__setitem__(2, 0.5), "'full': iou is"),
        (lambda c: c["scenarios"]["full"]["f1"].pop(), "'full': f1 is"),
        (
            lambda c: c["scenarios"]["full"].__setitem__("extra", 1.0),
            "scores ['extra'] are missing or unknown",
        ),
        (lambda c: c["scenarios"]["full"].pop("mf1"), "scores ['mf1'] are missing or unknown"),
        (_set("no_peek", value=[]), "no-peek was not proved in ['irrg', 'ndsm', 'mixed']"),
        (_set("no_peek", value=["irrg", "ndsm"]), "no-peek was not proved in ['mixed']"),
        (_set("ranked", value=True), "claims to be ranked, but recipe laptop is not the ranked one"),
        (_set("recipe_name", value="default"), None),
        (_set("error", value={"kind": "method", "message": "x"}), "error"),
        (_set("schema_version", value=2), "schema_version"),
        (_set("identity", "protocol", value=2), "is of protocol 2; this version knows 1"),
        (_set("identity", "seed", value="0"), "identity.seed"),
        (_set("identity", "method", value=["x"]), "identity.method"),
        (
            _set("identity", "dataset", "modalities", value={f"m{i}": 1 for i in range(9)}),
            "identity.dataset.modalities",
        ),
        (_set("training", "seconds", value=None), "training.seconds"),
        (_set("method", "parameters", value=-1), "method.parameters"),
        (_set("environment", value={}), "environment.device"),
        (_set("provenance", "seconds", value=float("nan")), "'provenance.seconds' is not a finite number"),
        (_set("training", "seconds", value=1e300), "training.seconds"),
        (_set("method", "parameters", value=10**30), "method.parameters"),
        (_set("profile", value={"inference": {}}), "profile.parameters_inference"),
        (
            _set("profile", value={"parameters_inference": 1, "inference": {"full": 3}}),
            "profile.inference.full",
        ),
        (_set("tiles", value=["test_00"] * 8), "names the test tiles"),
        (lambda c: c["tiles"].reverse(), "split standard has"),
        (_set("classes", value=list("abcdef")), "names the classes"),
        (_set("scored_classes", value=[9]), "scored_classes is [9]"),
    ],
)
def test_what_a_run_would_not_write_is_said(foreign, change, words):
    found = verify_record(foreign.add(0, change))
    if words is None:
        assert isinstance(found, SoundRecord)
    else:
        assert any(words in problem for problem in found), found


def test_a_number_of_thousands_of_digits_is_refused(foreign):
    path = foreign.add(0, _set("identity", "seed", value=123456789))
    path.write_text(path.read_text().replace("123456789", "9" * 5000))
    assert "number out of range" in verify_record(path)[0]


def test_a_score_is_held_against_its_matrices_to_the_ninth_digit(foreign):
    def shift(by):
        return lambda c: c["scenarios"]["full"].__setitem__("oa", c["scenarios"]["full"]["oa"] + by)

    assert isinstance(verify_record(foreign.add(0, shift(1e-11))), SoundRecord)
    assert "oa is" in verify_record(foreign.add(0, shift(1e-7)))[0]


def test_a_favourable_choice_of_classes_is_found_though_the_scores_follow_from_it(foreign):
    path = foreign.add(0, _set("scored_classes", value=[0]), rescore=True)
    assert verify_record(path) == ["takes its means over the classes [0]; synthetic over [0, 1, 2, 3, 4]"]


def test_a_scenario_that_is_left_out_is_missed(foreign):
    path = foreign.add(0, lambda c: c["scenarios"].pop("ndsm"), lambda m: m.pop("ndsm"))
    assert "lacks the scenarios ['ndsm']" in verify_record(path)[0]


@pytest.mark.parametrize(
    ("recount", "words"),
    [
        (lambda m: m["full"].__setitem__((3, 1, 1), -5), "has a count below 0 on tile 'test_03'"),
        (lambda m: m.__setitem__("full", m["full"].astype(np.float64)), "'F64'"),
        (lambda m: m.__setitem__("full", m["full"][:4].copy()), "expected ((8, 6, 6), 'I64')"),
        (lambda m: m.__setitem__("other", m["full"].copy()), "['other'] that the record does not know"),
        (lambda m: m.pop("irrg"), "lacks ['irrg']"),
        (lambda m: m.__setitem__("full@full", m["full"].copy()), "lacks ['irrg@full', 'ndsm@full']"),
        (lambda m: m["full"].__setitem__((0, 0, 0), 2**60), "counts over"),
    ],
)
def test_matrices_that_are_no_counts_of_the_record_are_refused(foreign, recount, words):
    (problem,) = verify_record(foreign.add(0, recount=recount))
    assert words in problem


def test_scenarios_that_count_another_truth_are_found_though_the_scores_follow(foreign):
    def move_truth(matrices):
        matrices["ndsm"][2] = np.diag(np.diag(matrices["ndsm"][2]))

    (problem,) = verify_record(foreign.add(0, recount=move_truth, rescore=True))
    assert problem.startswith("scenarios 'full' and 'ndsm' count the truth of tile 'test_02' differently")


def test_records_of_the_same_data_must_count_the_same_truth(foreign):
    honest = [foreign.add(number) for number in range(2)]

    def more_cars(matrices):
        for values in matrices.values():
            values[5, 4, 4] += 1000

    forged = foreign.add(3, recount=more_cars, rescore=True)
    assert isinstance(verify_record(forged), SoundRecord)
    (problem,) = verify([foreign.folder]).problems
    assert problem.path == forged
    assert "its pixels of each class on each tile are not those of" in problem.words
    assert any(str(path) in problem.words for path in honest)


def test_truth_under_further_label_policies_is_compared_where_it_is_there(foreign):
    def with_full(extra):
        def recount(matrices):
            for name in list(matrices):
                matrices[f"{name}@full"] = matrices[name].copy()
                matrices[f"{name}@full"][0, 0, 0] += extra

        return recount

    for number, extra in enumerate((7, 7)):
        foreign.add(number, recount=with_full(extra))
    foreign.add(2)
    assert verify([foreign.folder]).problems == ()
    forged = foreign.add(3, recount=with_full(8))
    (problem,) = verify([foreign.folder]).problems
    assert problem.path == forged
    assert "under full labels" in problem.words


def test_an_identity_that_was_changed_and_a_file_that_was_renamed_are_found(foreign):
    changed = foreign.add(0, _set("identity", "seed", value=77), keep_id=True)
    assert "the record was changed after it was written" in verify_record(changed)[0]
    renamed = foreign.folder / "0123456789abcdef.json"
    changed.rename(renamed)
    assert "expected the one that its name says" in verify_record(renamed)[0]


def test_missing_and_damaged_matrices_are_a_line_each(foreign):
    path = foreign.add(0)
    matrices = path.with_suffix(".safetensors")
    matrices.write_bytes(matrices.read_bytes()[:-100])
    assert "Run the cell again" in verify_record(path)[0]
    matrices.unlink()
    assert "is missing" in verify_record(path)[0]


@pytest.mark.parametrize("ending", [".json", ".safetensors", ".predictions.npz"])
def test_files_that_are_too_large_are_refused_unread(foreign, ending):
    path = foreign.add(0)
    with files.companion(path, ending).open("ab") as stream:
        stream.truncate(2**30)  # of holes: it takes no room, and no time if it is not read
    (problem,) = verify_record(path)
    assert f"has {2**30} bytes, expected at most" in problem


@pytest.mark.parametrize("ending", [".json", ".safetensors"])
def test_links_and_pipes_are_not_followed(foreign, tmp_path, ending):
    path = files.companion(foreign.add(0), ending)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert "is a link; expected a plain file" in verify_record(path.with_suffix(".json"))[0]
    path.unlink()
    os.mkfifo(path)
    assert "is no file; expected a plain file" in verify_record(path.with_suffix(".json"))[0]


class _Bomb:
    """Leaves a folder when it is unpickled."""

    def __init__(self, mark):
        self.mark = str(mark)

    def __reduce__(self):
        return os.mkdir, (self.mark,)


def test_nothing_is_run_that_a_record_names_or_carries(foreign, tmp_path, monkeypatch):
    mark = tmp_path / "it-ran"
    for name in ("evil_method", "evil_dataset"):
        (tmp_path / f"{name}.py").write_text(
            f"import os\nos.mkdir({str(mark)!r})\nclass It:\n    title = 'It'\n"
        )
        plug_in = Entry(
            name, name, tmp_path / f"{name}.py", "a-plug-in"
        )  # installed, but nobody asked for it
        monkeypatch.setitem(entries(name.removeprefix("evil_")), name, plug_in)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)

    def name_them(content):
        content["identity"]["method"]["name"] = "evil_method"
        content["identity"]["dataset"]["name"] = "evil_dataset"
        content["method"]["origin"] = str(tmp_path / "evil_method.py")
        content["recipe_name"] = str(tmp_path / "evil_method.py")
        _claim_default(content)

    path = foreign.add(0, name_them)
    packed = np.array([_Bomb(mark)], dtype=object)
    with (
        zipfile.ZipFile(files.companion(path, ".predictions.npz"), "w") as archive,
        archive.open("windows.npy", "w") as stream,
    ):
        np.lib.format.write_array(stream, packed, allow_pickle=True)
    assert "predictions" in verify_record(path)[0]
    assert main(["report", str(foreign.folder)]) == 0
    assert not mark.exists()
    pickle.loads(pickle.dumps(packed))  # noqa: S301  (the bomb is live)
    assert mark.exists()


def test_the_command_line_says_a_line_a_problem_and_leaves_foreign_files_alone(foreign, capfd):
    foreign.add(0)
    foreign.add(1)
    (foreign.folder / "study.json").write_text("[]")
    (foreign.folder / "more").mkdir()
    (foreign.folder / "0123456789abcdef.safetensors").write_bytes(b"of no record")
    assert main(["results", "verify", str(foreign.folder)]) == 0
    said = capfd.readouterr()
    assert said.out.startswith("2 records: 2 finished")
    assert said.err.count("not a record, left alone") == 3
    bad = [foreign.add(2, _set("no_peek", value=[])), foreign.add(3, _set("ranked", value=True))]
    assert main(["results", "verify", str(foreign.folder)]) == 4
    said = capfd.readouterr()
    assert sorted(line.partition(": ")[0] for line in said.out.splitlines()) == sorted(map(str, bad))
    assert said.err.splitlines()[-1].startswith("error: 2 of 4 records are not what a run writes")


@pytest.mark.parametrize("name", ["nowhere", "empty", "file"])
def test_a_folder_without_records_is_code_4(tmp_path, capfd, name):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    assert main(["results", "verify", str(tmp_path / name)]) == 4
    assert capfd.readouterr().err.count("\n") == 1


def test_words_of_a_record_cannot_move_the_cursor_of_a_terminal(foreign, capfd):
    foreign.add(0, _set("no_peek", value=[]))
    foreign.add(1, _set("classes", value=["\x1b[2J\nerror: none", *"bcdef"]))
    foreign.add(2, _set("schema_version", value="\x1b[2J"))
    assert main(["results", "verify", str(foreign.folder)]) == 4
    said = capfd.readouterr()
    assert "\x1b" not in said.out + said.err
    assert len(said.out.splitlines()) >= 3


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(data=st.data())
def test_a_record_changed_anywhere_is_refused_in_a_line_or_can_be_tabled(foreign, data):
    from mmbench.reporting.leaderboard import leaderboards
    from mmbench.reporting.tables import console_table

    for path in foreign.folder.iterdir():
        path.unlink()

    def change(content):
        here = content
        while True:
            items = list(here.items()) if isinstance(here, dict) else list(enumerate(here))
            key, value = data.draw(st.sampled_from(items))
            if not isinstance(value, dict | list) or not value or data.draw(st.booleans()):
                here[key] = data.draw(_JSON)
                return
            here = value

    try:
        path = foreign.add(0, change)
    except (TypeError, KeyError, ValueError, AttributeError):  # no longer a record that the fixture can write
        return
    found = verify_record(path) if files._ID.fullmatch(path.stem) else ["another name"]
    if isinstance(found, SoundRecord):
        assert all(console_table(board) for board in leaderboards([read_record(path)]))
    else:
        assert all(problem and "\n" not in problem for problem in found)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(start=st.integers(0, 400), junk=st.binary(max_size=40))
def test_damaged_files_are_refused_in_a_line(foreign, start, junk):
    path = foreign.add(0)
    whole = path.with_suffix(".safetensors")
    content = whole.read_bytes()
    whole.write_bytes(content[:start] + junk + content[start + len(junk) :])
    found = verify_record(path)
    assert isinstance(found, SoundRecord) or all("\n" not in problem for problem in found)
    path.write_bytes(path.read_bytes()[:start] + junk)
    assert all("\n" not in problem for problem in verify_record(path))


# Ranked tables.


def _plain_default(content):
    """Make it what the ranked recipe would have left, as far as a record can tell."""
    from mmbench.cells import option_defaults
    from mmbench.registry import find

    _claim_default(content)
    name = content["identity"]["method"]["name"]
    content["identity"]["method"]["options"] = json.loads(json.dumps(option_defaults(find("method", name))))
    content["method"] |= {"set_options": {}, "variant": ""}


def test_a_record_of_the_ranked_recipe_is_ranked(foreign):
    path = foreign.add(0, _plain_default)
    found = verify_record(path)
    assert isinstance(found, SoundRecord)
    assert found.ranked
    assert why_not_ranked(read_record(path)) == ""


@pytest.mark.parametrize(
    "change",
    [
        lambda c: _claim_default(c, load_recipe("smoke").settings()),
        lambda c: _claim_default(c, load_recipe("default", ["training.steps=40000"]).settings()),
        lambda c: (_plain_default(c), c["identity"]["method"]["options"].__setitem__("heads", 2)),
        lambda c: (_plain_default(c), c["method"].__setitem__("variant", "nobodys")),
        lambda c: (_plain_default(c), c.__setitem__("no_peek", [])),
        lambda c: (_plain_default(c), c.__setitem__("no_peek", ["irrg"])),
        lambda c: (_plain_default(c), c.__setitem__("ranked", False)),
    ],
)
def test_a_claim_to_be_ranked_is_held_against_recipe_options_and_proof(foreign, change):
    path = foreign.add(0, change)
    assert why_not_ranked(read_record(path)) != ""
    found = verify_record(path)
    assert not (isinstance(found, SoundRecord) and found.ranked)


def test_a_forged_smoke_run_shares_no_table_with_ranked_ones(foreign):
    from mmbench.reporting.leaderboard import leaderboards

    honest = foreign.add(0, _plain_default)
    forged = foreign.add(1, lambda c: _claim_default(c, load_recipe("smoke").settings()))
    boards = leaderboards([read_record(path) for path in (honest, forged)])
    assert sorted((board.ranked, board.records) for board in boards) == [
        (False, (forged.stem,)),
        (True, (honest.stem,)),
    ]


def test_a_run_whose_no_peek_was_not_proved_shares_no_table_with_ranked_ones(foreign):
    from mmbench.reporting.leaderboard import leaderboards

    honest = foreign.add(0, _plain_default)
    forged = foreign.add(1, lambda c: (_plain_default(c), c.__setitem__("no_peek", [])))
    boards = leaderboards([read_record(path) for path in (honest, forged)])
    assert [board.records for board in boards if board.ranked] == [(honest.stem,)]


def test_a_method_that_failed_no_peek_has_no_row_whatever_its_other_seeds_scored(foreign):
    from mmbench.reporting.leaderboard import leaderboards

    def of(name, seed, more=lambda content: None):
        def change(content):
            content["identity"]["method"]["name"] = name
            content["identity"]["code"]["method"] = name
            content["identity"]["seed"] = seed
            content["method"] |= {"set_options": {}, "variant": ""}
            more(content)

        return foreign.add(0, change)

    paths = [of("sly", 0), of("sly", 1), of("honest", 0), of("sly", 2, lambda c: _fail(c, "protocol"))]
    assert verify([foreign.folder]).problems == ()
    rows = [row.label for b in leaderboards(map(read_record, paths)) for row in b.all_rows]
    assert rows == ["honest"]


def test_the_matrices_are_read_as_they_are(foreign):
    path = foreign.add(0)
    matrices = read_matrices(path, read_record(path))
    assert sorted(matrices) == ["full", "irrg", "ndsm"]
    assert all(values.dtype == np.int64 for values in matrices.values())
