"""The page of a report: what it holds, that it loads nothing, and that no word of a record becomes markup."""

import base64
import hashlib
import io
import itertools
import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from mmbench.cli import main
from mmbench.records import read_confusions, read_predictions, read_records, write_record
from mmbench.reporting.escaping import one_line
from mmbench.reporting.figures.pictures import class_picture
from mmbench.reporting.leaderboard import leaderboards
from mmbench.reporting.page import contents, tiles
from mmbench.reporting.page.document import embedded_json, page_text
from mmbench.reporting.page.images import palette_png, svg_address
from mmbench.reporting.rescoring import rescored
from mmbench.reporting.standings import with_standings

WRONG = {"full": (0.1, 0.2, 0.1), "irrg": (0.3, 0.2, 0.4), "ndsm": (0.5, 0.3, 0.4)}
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</script><script>alert(1)</script>",
    "]]> --> <!-- <script>",
    "{{ 7 * 7 }}{% raw %}",
    "javascript:alert(1)",
    "\u202egnp.exe\u2028",
)


class _Page(HTMLParser):
    """The elements of a page: (tag, attributes), and the text of those that hold raw text."""

    def __init__(self, text):
        super().__init__()
        self.text, self.elements, self.raw = text, [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self.raw.append([tag, dict(attrs), ""])

    def handle_data(self, data):
        if self.cdata_elem:  # inside of a script or a style
            self.raw[-1][2] += data

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def data(self):
        (text,) = (text for _, attributes, text in self.raw if attributes.get("id") == "data")
        return json.loads(text)


def _text(results, labels=None):
    records = read_records(results)
    if labels:
        records = rescored(results, records, labels)
    boards = [with_standings(b, results, records, labels) for b in leaderboards(records, labels=labels)]
    return page_text(results, records, boards, f"mmbench report {results}")


def _page(results, labels=None):
    return _Page(_text(results, labels))


def _halved(wrong):
    return {scenario: [share / 2 for share in shares] for scenario, shares in wrong.items()}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Figures are drawn, but not rendered: that takes most of the time."""
    monkeypatch.setattr(contents, "svg_address", lambda figure: "data:image/svg+xml;base64,")


@pytest.fixture
def stored(tmp_path, store_record):
    """Two methods of two seeds; of a third one there is one seed only."""
    for seed in range(2):
        store_record("good", seed, _halved(WRONG), provenance={"command": f"mmbench run --seeds {seed}"})
        store_record("weak", seed, WRONG)
    store_record("late", 0, WRONG)
    return tmp_path


def _rows(data, study=0, policy="eroded", metric="miou", view=0, part="rows"):
    """The rows of one table: name -> heading -> cell."""
    shown = data["studies"][study]["tables"][policy][metric][view]
    return {
        row["cells"][0]["text"]: dict(zip(shown["headers"], row["cells"], strict=True)) for row in shown[part]
    }


def test_a_page_refers_to_nothing_outside_and_forbids_it(stored):
    text = _text(stored)
    page = _Page(text)
    addresses = [
        value
        for _, attributes in page.elements
        for name, value in attributes.items()
        if name in ("src", "href", "srcset", "action", "data", "poster", "formaction")
    ]
    assert addresses
    assert all(address.startswith(("data:", "#")) for address in addresses)
    (style,) = (text for tag, _, text in page.raw if tag == "style")
    assert "url(" not in style
    assert "@import" not in style
    policies = [meta["content"] for meta in page.all("meta") if "http-equiv" in meta]
    assert policies[0].startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in policies[0]


def test_the_policy_lets_exactly_the_style_and_the_script_of_the_page_run(stored):
    page = _page(stored)
    (policy,) = (meta["content"] for meta in page.all("meta") if "http-equiv" in meta)
    code = [text for tag, attributes, text in page.raw if "type" not in attributes]
    assert len(code) == 2
    for text in code:
        assert base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() in policy
    assert not any(name.startswith("on") or name == "style" for _, a in page.elements for name in a)


def test_every_metric_and_policy_has_the_scores_of_its_records(stored):
    data = _page(stored).data
    (study,) = data["studies"]
    assert [policy["key"] for policy in study["policies"]] == ["eroded", "five-class"]
    for policy in ("eroded", "five-class"):
        records = rescored(stored, read_records(stored), policy)
        for metric in ("miou", "mf1", "oa", "kappa"):
            (board,) = leaderboards(records, metric, policy)
            shown = _rows(data, policy=policy, metric=metric)
            for row in board.rows:
                expected = {name: figure.mean for name, figure in row.figures.items()}
                assert {name: shown[row.label][name]["sort"] for name in expected} == pytest.approx(expected)
    shown = [_rows(data, policy=policy)["weak"]["full"]["sort"] for policy in ("eroded", "five-class")]
    assert shown[0] != shown[1]


def test_labels_that_the_records_hold_can_be_chosen_and_others_are_explained(tmp_path, store_record):
    matrices = np.stack([np.diag([900, 500, 100])] * 3)
    extra = {f"{scenario}@full": matrices for scenario in WRONG}
    store_record("it", 0, WRONG, extra=extra)
    page = _text(tmp_path)
    assert "No scores against" not in page
    assert _rows(_Page(page).data, policy="full")["it"]["full"]["sort"] == 100
    store_record("other", 0, WRONG)
    page = _text(tmp_path)
    assert "full" not in _Page(page).data["studies"][0]["tables"]
    assert re.search(r"No scores against full labels: matrices .* none were counted against", page)


def test_a_page_that_was_asked_for_other_labels_begins_with_them(stored):
    data = _page(stored, "five-class").data
    assert data["studies"][0]["policy"] == "five-class"
    assert set(data["studies"][0]["tables"]) == {"eroded", "five-class"}
    own, other = _page(stored).data["studies"][0], data["studies"][0]
    assert {k: own["tables"][k]["oa"][0]["rows"] for k in own["tables"]} == {
        k: other["tables"][k]["oa"][0]["rows"] for k in other["tables"]
    }


def test_incomplete_rows_stand_below_and_ties_are_marked(stored):
    data = _page(stored).data
    assert list(_rows(data, part="below")) == ["late"]
    standings = {name: row["full"]["standing"] for name, row in _rows(data).items()}
    assert standings["good"] == "top"
    assert any(
        note.startswith("Bold: ") for note in data["studies"][0]["tables"]["eroded"]["miou"][0]["notes"]
    )


def test_a_number_leads_to_its_records_and_their_matrices(stored):
    data = _page(stored).data
    (study,) = data["studies"]
    place = next(row["place"] for row in study["tables"]["eroded"]["miou"][0]["rows"])
    row = study["rows"][place]
    assert row["label"] == "good"
    held = {record.id: record for record in read_records(stored)}
    assert [held[key].identity["seed"] for key in row["records"]] == [0, 1]
    for key in row["records"]:
        outcome = study["outcomes"]["eroded"][key]
        summed = {s: m.sum(0).tolist() for s, m in read_confusions(stored, held[key]).items()}
        assert outcome["matrices"] == summed
        assert float(outcome["scores"]["miou"]["full"]) == pytest.approx(
            100 * held[key].scenarios["full"]["miou"], abs=1e-4
        )
        facts = dict(data["records"][key]["facts"])
        assert facts["command"] == f"mmbench run --seeds {held[key].identity['seed']}"
        assert "method good, blocks b" in facts["code"]


def test_the_seeds_behind_a_mean_give_that_mean(stored):
    data = _page(stored).data
    (study,) = data["studies"]
    for name in ("full", "mean", "worst"):
        (keys,) = (row["records"] for row in study["rows"] if row["label"] == "weak")
        values = [float(study["outcomes"]["eroded"][key]["scores"]["miou"][name]) for key in keys]
        assert np.mean(values) == pytest.approx(_rows(data)["weak"][name]["sort"], abs=1e-3)


def test_records_whose_matrices_are_gone_keep_their_scores_and_say_so(stored):
    for path in stored.glob("*.safetensors"):
        path.unlink()
    data = _page(stored).data
    (study,) = data["studies"]
    assert list(study["tables"]) == ["eroded"]
    assert len(_rows(data)) == 2
    outcome = next(iter(study["outcomes"]["eroded"].values()))
    assert outcome["matrices"] == {}
    assert "cannot be read" in outcome["lacking"]


@pytest.mark.parametrize("words", HOSTILE)
def test_words_of_strangers_are_words(tmp_path, store_record, words):
    plain = [tag for tag, _ in _strange(tmp_path / "plain", store_record, tmp_path, "plain").elements]
    page = _strange(tmp_path / "hostile", store_record, tmp_path, words)
    assert [tag for tag, _ in page.elements] == plain
    shown = page.data["studies"][0]["rows"][0]["label"]
    assert "alert(1)" not in words or "alert(1)" in shown
    assert not {"\u202e", "\u2028"} & set(page.text)
    assert not {"\u202e", "\u2028"} & set(json.dumps(page.data, ensure_ascii=False))


def _strange(folder, store_record, tmp_path, words):
    """The page of one record in which all words that a stranger may choose are these."""
    for path in [*tmp_path.glob("*.json"), *tmp_path.glob("*.safetensors")]:
        path.unlink()
    store_record(
        words,
        0,
        {words: (0.1, 0.2), "full": (0.2, 0.1)},
        classes=[words, "house", "clutter"],
        method={"title": words, "note": words, "origin": words, "set_options": {words: words}},
        environment={"device": words},
        provenance={"split": words, "command": words, "started": words},
        identity={"dataset": {"name": words, "split": "s", "modalities": {words: 3}}},
    )
    return _page(tmp_path)


def test_json_in_a_page_cannot_end_its_element_and_holds_only_numbers_that_it_can():
    data = {"</script>": ["<!--", "a & b", 1.5, None]}
    text = embedded_json(data)
    assert not set("<>&") & set(text)
    assert json.loads(text) == data
    with pytest.raises(ValueError, match="Out of range float values"):
        embedded_json([float("nan")])


def test_a_page_of_two_recipes_keeps_their_tables_apart(stored, store_record):
    store_record("good", 0, WRONG, recipe="smoke")
    page = _page(stored)
    titles = [study["title"] for study in page.data["studies"]]
    assert len(titles) == 2
    assert "recipe default" in titles[0]
    assert "recipe smoke" in titles[1]
    assert {attributes.get("data-study") for attributes in page.all("div")} == {None, "0", "1"}
    assert list(_rows(page.data, study=1)) == ["good"]


def test_a_recipe_that_is_not_ranked_is_called_so_at_the_head(tmp_path, store_record):
    store_record("it", 0, WRONG, recipe="smoke")
    text = _text(tmp_path)
    assert "<strong>Not a leaderboard.</strong> Recipe smoke is not the ranked one." in text
    assert text.index("Not a leaderboard") < text.index("<main>")


def test_every_picture_has_words_and_every_choice_a_name(stored):
    page = _page(stored)
    assert len(page.all("img")) == 5
    assert all(len(image["alt"]) > 40 for image in page.all("img"))
    labelled = {label["for"] for label in page.all("label")}
    assert {select["id"] for select in page.all("select")} <= labelled
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_records_that_failed_are_named_with_their_reason(stored, make_failure):
    write_record(stored, make_failure("late", 1, message="it <b>diverged</b>"))
    text = _text(stored)
    assert "late seed 1: it &lt;b&gt;diverged&lt;/b&gt;" in text


def test_a_page_of_failures_alone_has_their_reasons_and_no_rows(tmp_path, make_failure):
    write_record(tmp_path, make_failure("it", 0))
    page = _page(tmp_path)
    assert "it seed 0: no luck" in page.text
    assert _rows(page.data) == {}
    assert "No method is complete." in page.text


def test_cards_are_those_of_installed_methods_else_what_the_records_say(tmp_path, store_record):
    store_record("gemmnet", 0, WRONG)
    store_record("stranger", 0, WRONG)
    text = _text(tmp_path)
    assert "This method is not installed here" in text
    assert "What differs from its source" in text


def test_a_picture_of_few_colours_is_what_a_reader_of_png_sees():
    indices = np.arange(12, dtype=np.uint8).reshape(3, 4) % 3
    colours = [(255, 0, 0), (0, 255, 0), (1, 2, 3)]
    seen = np.asarray(Image.open(io.BytesIO(palette_png(indices, colours))).convert("RGB"))
    assert np.array_equal(seen, np.array(colours, dtype=np.uint8)[indices])
    with pytest.raises(ValueError, match="each below the number of colours"):
        palette_png(indices + 1, colours)


@pytest.mark.parametrize("words", HOSTILE)
def test_a_figure_with_the_words_of_strangers_is_a_picture(words):
    figure = Figure(figsize=(2, 1))
    figure.text(0.1, 0.5, one_line(words), parse_math=False)
    kind, _, content = svg_address(figure).partition(",")
    assert kind == "data:image/svg+xml;base64"
    drawing = ElementTree.fromstring(base64.b64decode(content))
    tags = {element.tag.rpartition("}")[2] for element in drawing.iter()}
    assert "path" in tags
    assert not tags & {"script", "image", "foreignObject", "a"}


def _pixels(address):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))).convert("RGB"))


def test_tiles_show_the_recorded_predictions_and_where_they_are_wrong(trained):
    shown = _page(trained).data["studies"][0]["tiles"]
    assert shown["methods"] == [row.label for row in leaderboards(read_records(trained))[0].rows]
    (record,) = (r for r in read_records(trained) if r.identity["method"]["name"] == shown["methods"][0])
    predictions = read_predictions(trained, record)
    tile = shown["tiles"][0]
    case = tile["cases"][0]["irrg"]
    classes = predictions.classes[tile["id"], "irrg"]
    palette = [tuple(map(int, re.findall(r"\d+", entry["colour"]))) for entry in shown["legend"]]
    assert np.array_equal(_pixels(case["prediction"]), class_picture(classes, palette[:-1], 255))
    truth, errors = _pixels(tile["truth"]), _pixels(case["errors"])
    wrong = (truth != _pixels(case["prediction"])).any(-1)
    ignored = (truth == 0).all(-1)
    assert ignored.any()
    assert np.array_equal((errors == 20).all(-1), wrong & ~ignored)
    assert np.array_equal((errors == 255).all(-1), ignored)
    assert [image["name"] for image in tile["inputs"]] == ["irrg", "ndsm"]


def test_a_page_holds_no_more_tiles_than_open_at_once(trained, monkeypatch):
    assert len(_page(trained).data["studies"][0]["tiles"]["tiles"]) == 2
    monkeypatch.setattr(tiles, "_MOST_LETTERS", 10)
    assert len(_page(trained).data["studies"][0]["tiles"]["tiles"]) == 1


def test_without_predictions_the_page_says_why_there_are_no_tiles(stored):
    assert "No record holds predictions" in _page(stored).data["studies"][0]["tiles"]["absent"]


def test_everything_at_once_writes_the_page(stored, tmp_path):
    assert main(["report", str(stored), "--all", str(tmp_path / "all")]) == 0
    page = _Page((tmp_path / "all" / "report.html").read_text(encoding="utf-8"))
    assert len(page.data["studies"]) == 1
