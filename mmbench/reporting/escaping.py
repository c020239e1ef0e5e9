"""Words of strangers made harmless: a method's name, an option or an error can hold anything.

Each function takes any text and returns what shows that text in one format and does nothing else there. Use
it once, on words: what it returns is markup.
"""

from __future__ import annotations

import html as _html
import itertools
import re
import unicodedata

_REPLACEMENT = "�"
_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    # With LaTeX's first font encoding these three print as other characters.
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    # A row that begins with a bracket would be taken as an option of the \\ before it.
    "[": "{[}",
    "]": "{]}",
    **{character: f"\\{character}" for character in "&%$#_"},
    "±": r"$\pm$",
    "×": r"$\times$",
    "†": r"$\dagger$",
    "→": r"$\rightarrow$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "–": "--",
    "—": "---",
    "…": r"\dots{}",
    "·": r"$\cdot$",
    "°": r"$^\circ$",
    "²": "$^2$",
    "³": "$^3$",
    "µ": r"$\mu$",
    "ß": r"\ss{}",
    **{
        letter: f"\\{command}{{}}"
        for letter, command in zip("æÆøØœŒłŁ", ("ae", "AE", "o", "O", "oe", "OE", "l", "L"), strict=True)
    },
}
_LIGATURES = {"--", "``", "''", "?`", "!`", ",,"}
"""Pairs that fonts print as one other character."""
_LATEX_ACCENTS = {
    "̀": "`",
    "́": "'",
    "̂": "^",
    "̃": "~",
    "̄": "=",
    "̇": ".",
    "̈": '"',
    "̊": "r",
    "̋": "H",
    "̌": "v",
    "̧": "c",
}
"""Combining mark -> the command that sets it, in every encoding of fonts."""
_FORMULA = re.compile(r"(^|;)(\s*)(?=[=+\-@＝＋－＠])")
"""Where a spreadsheet would begin a formula; some split at a semicolon, even inside quotes."""
_NUMBER = re.compile(r"[-+]?\d+(\.\d+)?(e[-+]?\d+)?", re.IGNORECASE)


def one_line(text: str) -> str:
    """Return text in one line: white space and control characters are spaces, none at the ends.

    Characters that turn the direction of what follows, and halves of characters, which no file can hold,
    become the replacement character.
    """
    # Nearly every text is printable, which shows far sooner than letter by letter.
    return " ".join((text if text.isprintable() else "".join(map(_printable, text))).split())


def _printable(character: str) -> str:
    """Return a character that stands for itself only."""
    category = unicodedata.category(character)
    if category in ("Cc", "Zl", "Zp"):
        return " "
    return _REPLACEMENT if category in ("Cf", "Cs") else character


def latex(text: str) -> str:
    r"""Return one line for running text or a cell in LaTeX, whatever fonts and encoding the document has.

    A letter with a common accent is written as LaTeX's command for it, any other character beyond ASCII as
    its number: pdflatex stops at a character that it was not told of. Ligatures are kept apart.
    """
    line = one_line(text)
    written = [
        _latex_character(character) + "{}" * (character + following in _LIGATURES)
        for character, following in itertools.pairwise([*line, ""])
    ]
    if line.startswith("*"):  # a row that begins with it would be taken as the star of the \\ before it
        written[0] = "{*}"
    return "".join(written)


def _latex_character(character: str) -> str:
    """Return what LaTeX prints as one character."""
    if character in _LATEX:
        return _LATEX[character]
    if character.isascii():
        return character
    letter, *marks = list(unicodedata.normalize("NFD", character))
    if letter.isascii() and letter.isalpha() and len(marks) == 1 and marks[0] in _LATEX_ACCENTS:
        return rf"\{_LATEX_ACCENTS[marks[0]]}{{{letter}}}"
    return f"U+{ord(character):04X}"


def markdown(text: str) -> str:
    """Return one line for running text or a table's cell in GitHub's Markdown: no markup, bar or HTML."""
    escaped = re.sub(r"([\\`*_{}\[\]<>|#~$&])", r"\\\1", one_line(text))
    # At the start of a line these would make a list, a rule or a heading; a bare address would be a link.
    escaped = re.sub(r"^([-+=])", r"\\\1", escaped)
    escaped = re.sub(r"^(\d+)([.)])(?=\s|$)", r"\1\\\2", escaped)
    return re.sub(r"://|www\.", lambda found: found[0].replace(":", r"\:").replace(".", r"\."), escaped)


def html(text: str) -> str:
    """Return one line for an element or a quoted attribute in HTML."""
    return _html.escape(one_line(text), quote=True)


def csv_cell(text: str) -> str:
    """Return the value of a cell in CSV, to be quoted by the `csv` module as any other.

    A text that a spreadsheet would take for a formula gets an apostrophe before it; plain numbers stay.
    """
    line = one_line(text)
    return line if _NUMBER.fullmatch(line) else _FORMULA.sub(r"\1\2'", line)
