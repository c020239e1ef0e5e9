"""The page of a report in a real browser, opened from disk: what a reader does with it by mouse and keys."""

import re
import shutil

import pytest

from mmbench.records import read_confusions, read_records
from mmbench.reporting.leaderboard import leaderboards
from mmbench.reporting.page.document import page_text
from mmbench.reporting.rescoring import rescored
from mmbench.reporting.standings import with_standings

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium drives the browser")
from selenium.webdriver.chrome.options import Options  # noqa: E402
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import Select  # noqa: E402

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    BROWSER is None or DRIVER is None, reason="needs the programs chromium and chromedriver"
)
HOSTILE = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
WRONG = {"full": (0.1, 0.2, 0.1), "irrg": (0.3, 0.2, 0.4), "ndsm": (0.5, 0.3, 0.4)}


@pytest.fixture(scope="module")
def browser():
    options = Options()
    options.binary_location = BROWSER
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.add_argument("--window-size=1400,900")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def trained_page(trained, tmp_path_factory):
    """The page of two trained methods, with both label policies and predictions."""
    return _write(trained, tmp_path_factory.mktemp("page"))


@pytest.fixture
def opened(browser, trained_page):
    """The browser with that page, and afterwards nothing in its log."""
    browser.get(trained_page.as_uri())
    yield browser
    assert browser.get_log("browser") == []


def _write(results, folder):
    records = read_records(results)
    boards = [with_standings(board, results, records, None) for board in leaderboards(records)]
    folder.mkdir(exist_ok=True)
    path = folder / "report.html"
    path.write_text(page_text(results, records, boards, "mmbench report"), encoding="utf-8")
    return path


def _find(driver, selector):
    return driver.find_element(By.CSS_SELECTOR, selector)


def _all(driver, selector):
    return driver.find_elements(By.CSS_SELECTOR, selector)


def _names(driver):
    return [name.text for name in _all(driver, "#table tbody .name")]


def _column(driver, heading):
    """What stands in a column, from top to bottom, without deviations."""
    heads = [head.text.strip("▴▾ ") for head in _all(driver, "#table thead th")]
    place = heads.index(heading) + 1
    return [cell.text.split(" ±")[0] for cell in _all(driver, f"#table tbody tr > :nth-child({place})")]


def _heading(driver, words):
    return next(b for b in _all(driver, "#table thead button") if b.text.strip("▴▾ ") == words)


def _order(driver, words):
    return _heading(driver, words).find_element(By.XPATH, "..").get_attribute("aria-sort")


def _choose(driver, group, words):
    labels = _all(driver, f"#{group} .radios label")
    next(label for label in labels if label.text == words).click()


def _expected(results, metric, policy, column):
    """What the records say of a column, in the order of the report."""
    (board,) = leaderboards(rescored(results, read_records(results), policy), metric, policy)
    return {row.method: f"{row.figures[column].mean:.1f}" for row in board.rows}


def _picture(driver):
    return _find(driver, "#tiles .cases .above").get_attribute("src")


def test_a_heading_sorts_its_column_and_says_so(opened):
    _heading(opened, "params (M)").click()
    assert _order(opened, "params (M)") == "descending"
    descending, names = [float(value) for value in _column(opened, "params (M)")], _names(opened)
    assert descending == sorted(descending, reverse=True)
    _heading(opened, "params (M)").click()
    assert _names(opened) == names[::-1]
    assert _order(opened, "params (M)") == "ascending"
    assert _order(opened, "full") == "none"
    assert opened.switch_to.active_element == _heading(opened, "params (M)")


def test_a_heading_sorts_by_the_keyboard_too(opened):
    _heading(opened, "method").send_keys(Keys.ENTER)
    assert _names(opened) == sorted(_names(opened))
    _heading(opened, "method").send_keys(Keys.SPACE)
    assert _names(opened) == sorted(_names(opened), reverse=True)


@pytest.mark.parametrize("policy", ["eroded", "full", "five-class"])
@pytest.mark.parametrize(("metric", "words"), [("miou", "mIoU"), ("oa", "OA"), ("kappa", "kappa")])
def test_numbers_are_those_of_the_metric_and_labels_that_are_chosen(opened, trained, policy, metric, words):
    _choose(opened, "metric", words)
    _choose(opened, "labels", policy)
    shown = dict(zip(_names(opened), _column(opened, "irrg"), strict=True))
    assert shown == _expected(trained, metric, policy, "irrg")
    assert words in _find(opened, "#table caption").text


def test_the_labels_change_the_numbers(opened):
    before = _column(opened, "full")
    _choose(opened, "labels", "full")
    assert _column(opened, "full") != before


def test_a_table_by_class_is_that_of_its_scenario(opened, trained):
    Select(_find(opened, "#view")).select_by_visible_text("By class, given ndsm")
    (board,) = leaderboards(read_records(trained))
    expected = [f"{row.results[0].scenarios['ndsm']['iou'][1] * 100:.1f}" for row in board.rows]
    assert _column(opened, "building") == expected
    _choose(opened, "metric", "OA")  # has no values by class: the page goes back to what there is
    assert "full" in [head.text for head in _all(opened, "#table thead th")]


def test_a_score_opens_its_records_by_the_keyboard_and_escape_closes_them(opened, trained):
    score = _all(opened, "#table .score")[1]
    score.send_keys(Keys.ENTER)
    dialog = _find(opened, "#behind")
    assert dialog.get_attribute("open") is not None
    first = leaderboards(read_records(trained))[0].rows[0]
    assert first.results[0].record in dialog.text
    (record,) = (r for r in read_records(trained) if r.id == first.results[0].record)
    code, device = record.identity["code"]["method"], record.environment["device"]
    assert all(words in dialog.text for words in (record.provenance["started"], device, code))
    counts = [int(re.sub(r"\D", "", cell.text)) for cell in _all(opened, "#behind .matrix .count")]
    assert counts == read_confusions(trained, record)["irrg"].sum(0).reshape(-1).tolist()
    assert f"{100 * record.scenarios['irrg']['iou'][0]:.4f}" in _find(opened, "#behind .matrix").text
    opened.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert dialog.get_attribute("open") is None
    assert opened.switch_to.active_element == score


def test_a_mean_opens_the_matrices_of_all_scenarios_and_a_button_closes_them(opened):
    names = [head.text for head in _all(opened, "#table thead th")]
    place = names.index("mean") + 1
    _find(opened, f"#table tbody tr > :nth-child({place}) button").click()
    assert len(_all(opened, "#behind .matrix")) == 3
    _find(opened, "#close").click()
    assert _find(opened, "#behind").get_attribute("open") is None


def test_a_slider_moves_over_the_tiles(opened):
    before, words = _picture(opened), _find(opened, "#tiles output").text
    _find(opened, "#tile").send_keys(Keys.ARROW_RIGHT)
    assert _picture(opened) != before
    assert _find(opened, "#tiles output").text != words
    assert _find(opened, "#tile").get_attribute("aria-valuetext") == _find(opened, "#tiles output").text


def test_a_slider_wipes_the_prediction_off_the_truth(opened):
    wipe = _find(opened, "#wipe")
    above = "return document.querySelector('#tiles .above').style.clipPath"
    assert opened.execute_script(above) == "inset(0px 0px 0px 0%)"
    wipe.send_keys(Keys.HOME)
    assert opened.execute_script(above) == "inset(0px 0px 0px 100%)"
    wipe.send_keys(Keys.ARROW_RIGHT)
    assert opened.execute_script(above) == "inset(0px 0px 0px 99%)"


def test_pictures_are_those_of_the_scenario_and_the_layer_that_are_chosen(opened):
    seen = [_picture(opened)]
    _choose(opened, "tile-scenario", "ndsm")
    seen.append(_picture(opened))
    _choose(opened, "tile-layer", "errors")
    seen.append(_picture(opened))
    assert len(set(seen)) == 3
    assert "wrong" in _find(opened, "#tiles").text


def test_every_picture_is_shown(opened):
    script = """
        for (const image of document.images) image.loading = "eager";
        const width = (image) => image.decode().then(() => image.naturalWidth, () => 0);
        Promise.all([...document.images].map(width)).then(arguments[0]);
    """
    widths = opened.execute_async_script(script)
    assert len(widths) > 5
    assert min(widths) > 50


def test_the_page_asks_for_nothing_and_may_not(opened):
    entries = opened.execute_script(
        "return performance.getEntriesByType('resource').map((entry) => entry.name)"
    )
    assert [name for name in entries if not name.startswith("data:")] == []
    answer = opened.execute_async_script(
        "const say = arguments[0]; fetch('http://127.0.0.1:9/').then(() => say('sent'), () => say('refused'))"
    )
    assert answer == "refused"
    assert "Content Security Policy" in " ".join(entry["message"] for entry in opened.get_log("browser"))


@pytest.mark.parametrize("width", [1400, 420])
def test_the_page_is_as_wide_as_its_window(opened, width):
    opened.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False},
    )
    try:
        assert opened.execute_script("return document.documentElement.scrollWidth") <= width
    finally:
        opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_everything_that_can_be_done_has_a_name(opened):
    script = """
        return [...document.querySelectorAll("button, select, input, summary, dialog, fieldset")]
          .filter((one) => !(one.getAttribute("aria-label") || one.textContent.trim() || one.labels?.length
            || one.getAttribute("aria-labelledby")))
          .map((one) => one.outerHTML);
    """
    assert opened.execute_script(script) == []


def test_words_of_strangers_stay_words_in_the_table_and_in_the_dialog(browser, tmp_path, store_record):
    store_record(
        HOSTILE,
        0,
        WRONG,
        classes=[HOSTILE, "house", "clutter"],
        method={"note": HOSTILE, "set_options": {"a": HOSTILE}},
        environment={"device": HOSTILE},
        provenance={"split": HOSTILE, "command": HOSTILE},
    )
    browser.get(_write(tmp_path, tmp_path / "page").as_uri())
    _find(browser, "#table .score").click()
    dialog = _find(browser, "#behind")
    assert HOSTILE in dialog.text
    assert HOSTILE in _find(browser, "#table").text
    assert browser.title != "owned"
    assert _all(browser, "#behind img, #behind script, #table img, #table script") == []
    assert browser.get_log("browser") == []


def test_another_study_shows_its_own_table(browser, tmp_path, store_record):
    store_record("one", 0, WRONG)
    store_record("other", 0, WRONG, recipe="smoke")
    browser.get(_write(tmp_path, tmp_path / "page").as_uri())
    assert _names(browser) == ["one"]
    assert "Not a leaderboard" not in _find(browser, "header").text
    Select(_find(browser, "#study")).select_by_index(1)
    assert _names(browser) == ["other"]
    assert "Not a leaderboard" in _find(browser, "header").text
