"""Whatever a method is called, it is words in every format: nothing runs, nothing breaks the table."""

import csv
import io
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt  # rich brings it

from mmbench.reporting.escaping import csv_cell, html, latex, markdown, one_line

HOSTILE = (
    "<script>alert(1)</script>",
    "=cmd()",
    "a_b%",
    "@SUM(A1)",
    r"\input{x}",
    r"\\[1cm]",
    "|",
    r"\|",
    "-2+3+cmd|' /C calc'!A0",
    "a;=cmd()",
    "*a*",
    "[a](javascript:b)",
    "[1cm]",
    "~~a~~ `b` #c $d$ &lt; ^e",
    "two\n\nlines\tand\x00more",
    "\u202egnp.exe",
    "\ud800",
    "a--b ``c'' ?`",
    "漢 é ø → ±",
    "1. a",
    "- a",
    "quote \" and '",
)
_ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=30)


def hostile_examples(test):
    for text in HOSTILE:
        test = example(text)(test)
    return test


class _Words(HTMLParser):
    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.words, self.tags = "", []

    def handle_data(self, data):
        self.words += data

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))


@hostile_examples
@given(_ANY_TEXT)
def test_html_shows_the_text_and_holds_no_element_of_it(text):
    page = _Words()
    page.feed(f'<p title="{html(text)}">{html(text)}</p>')
    page.close()
    assert page.tags == [("p", {"title": one_line(text)})]
    assert page.words == one_line(text)


@hostile_examples
@given(_ANY_TEXT)
def test_a_cell_in_markdown_is_one_cell_of_plain_words(text):
    table = f"| a | b |\n|---|---|\n| {markdown(text)} | end |\n"
    cells = [
        t
        for t in MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(table)
        if t.type == "inline"
    ]
    assert len(cells) == 4
    children = cells[2].children or []
    assert {child.type for child in children} <= {"text", "text_special"}
    assert "".join(child.content for child in children) == one_line(text)
    assert cells[3].content == "end"


@hostile_examples
@given(_ANY_TEXT)
def test_a_line_in_markdown_is_a_paragraph_of_plain_words(text):
    tokens = MarkdownIt("commonmark").enable(["strikethrough"]).parse(markdown(text))
    assert [t.type for t in tokens] in ([], ["paragraph_open", "inline", "paragraph_close"])
    children = tokens[1].children if tokens else []
    assert {child.type for child in children} <= {"text", "text_special"}
    assert "".join(child.content for child in children) == one_line(text)


_OWN_COMMANDS = re.compile(
    r"\\text(backslash|asciitilde|asciicircum|less|greater|bar)\{\}"
    r"|\\(dots|ss|ae|AE|o|O|oe|OE|l|L)\{\}"
    r"|\$(\\(pm|times|dagger|rightarrow|geq|leq|cdot|mu)|\^\\circ|\^[23])\$"
    r"|\\[`'^~=.\"rHvc]\{[A-Za-z]\}"
    r"|\\[{}&%$#_]"
    r"|\{[\[\]*]\}"
    r"|\{\}"
)


@hostile_examples
@given(_ANY_TEXT)
def test_latex_is_ascii_and_nothing_but_our_own_commands_means_anything(text):
    written = latex(text)
    assert written.isascii()
    assert written.isprintable()
    assert not written.startswith(("*", "["))
    assert not set(_OWN_COMMANDS.sub("", written)) & set(r"\{}[]~^&%$#_<>|")


@hostile_examples
@given(_ANY_TEXT)
def test_a_cell_in_csv_is_no_formula_wherever_a_spreadsheet_splits(text):
    stream = io.StringIO()
    csv.writer(stream).writerow([csv_cell(text), "end"])
    ((cell, end),) = csv.reader(io.StringIO(stream.getvalue()))
    assert end == "end"
    assert cell.replace("'", "") == one_line(text).replace("'", "")
    for part in cell.split(";"):
        number = re.fullmatch(r"[-+]?[\d.]+(e[-+]?\d+)?", cell, re.IGNORECASE)
        assert number or not part.lstrip().startswith(tuple("=+-@＝＋－＠"))


def test_numbers_stay_numbers_in_csv():
    assert [csv_cell(number) for number in ("-0.5", "+3", "1e-3", "12")] == ["-0.5", "+3", "1e-3", "12"]
    assert csv_cell("-0.5+cmd()") == "'-0.5+cmd()"


def test_each_format_writes_what_its_reader_expects():
    assert latex(r"\{}~^&%$#_") == r"\textbackslash{}\{\}\textasciitilde{}\textasciicircum{}\&\%\$\#\_"
    assert latex("80.0 ± 0.1 †, é–漢 a--b") == r"80.0 $\pm$ 0.1 $\dagger$, \'{e}--U+6F22 a-{}-b"
    assert markdown("a|b_c <i> (%) [-1, 1]") == r"a\|b\_c \<i\> (%) \[-1, 1\]"
    assert html("a<b & 'c'") == "a&lt;b &amp; &#x27;c&#x27;"
    assert csv_cell("@SUM(A1)") == "'@SUM(A1)"


def test_pdflatex_sets_a_table_of_hostile_names(tmp_path):
    if shutil.which("pdflatex") is None:
        pytest.skip("pdflatex is not installed")
    letters = "".join(map(chr, [*range(0x20, 0x7F), *range(0xA1, 0x180)]))
    names = [*HOSTILE, *(letters[i : i + 40] for i in range(0, len(letters), 40))]
    rows = "\n".join(rf"{latex(name)} & {latex(name)} \\" for name in names)
    (tmp_path / "table.tex").write_text(
        "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\\begin{table}"
        f"\\caption{{{' '.join(map(latex, names))}}}\\begin{{tabular}}{{lr}}\\toprule\n{rows}\n"
        "\\bottomrule\\end{tabular}\\end{table}\\end{document}\n"
    )
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "table.tex"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        errors="replace",
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "table.pdf").is_file()
