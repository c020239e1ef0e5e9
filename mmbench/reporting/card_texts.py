"""Cards of methods as text: for the console, and in Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence

from mmbench.reporting.cards import MODALITIES, NUM_CLASSES, Card

COMMAND = "python -m mmbench info --all-methods --format markdown > baselines/README.md"
_COUNTED_FOR = (
    f"{' + '.join(f'{name} ({count})' for name, count in MODALITIES.items())}, {NUM_CLASSES} classes"
)
_HEADERS = (
    "method",
    "parameters (M)",
    "sees hidden content",
    "licence",
    "paper",
    "authors' code",
    "reproduced",
)
_PREAMBLE = (
    "# Methods",
    "",
    "What stands here is changed in the methods' own files, and written by",
    "",
    "```",
    COMMAND,
    "```",
    "",
    f"Parameters are those of {_COUNTED_FOR}, with default options. A method *sees hidden content*",
    "if the content of hidden modalities is a target of its training; tables of results mark it with \\*.",
    "†: see *beware* in its card.",
    "",
    "Recipes `smoke`, `laptop` and `default` train all methods alike: every sample has one of the non-empty",
    "subsets of the modalities, all equally likely, and the optimiser is the recipe's; under `default` each",
    "method also gets the same small search for its learning rate. Recipe `paper` takes patterns and the",
    "optimiser from the card. Published methods have presets: `released` computes what the authors' code",
    "does, `golden_corrected` the same with its worst defects mended, `default` is the method that ships.",
)


def console_card(card: Card) -> str:
    """Return a card for a terminal."""
    facts = card.facts | {"from": card.origin}
    width = max(map(len, facts))
    return "\n".join(
        [
            f"{card.name}: {card.title}",
            *([card.summary] if card.summary else []),
            "",
            *(f"{key:{width}}  {value}" for key, value in facts.items()),
            "",
            *_parameter_lines(card),
            "",
            "differs from its source in",
            *(f"  - {deviation}" for deviation in card.deviations or ("nothing",)),
            "",
            f"options (recipe: methods.{card.name}){_about_presets(card)}",
            *(f"  - {words}" for words in card.option_words or ["none"]),
        ]
    )


def _parameter_lines(card: Card) -> list[str]:
    """Return the parameters, in all and of each part."""
    if card.built is None:
        return [f"parameters unknown: it does not take {_COUNTED_FOR} ({card.refusal})"]
    width = max(map(len, card.built.parts), default=0)
    parts = [f"  {part:{width}}  {count:>11,}" for part, count in card.built.parts.items()]
    return [f"parameters for {_COUNTED_FOR}: {card.built.parameters:,}", *parts]


def markdown_card(card: Card) -> str:
    """Return a card as a section of a Markdown document."""
    options = ", ".join(f"`{words}`" for words in card.option_words) or "none"
    return "\n".join(
        [
            f"## {card.name}",
            "",
            f"{_prose(card.title)}. {_prose(card.summary)}",
            "",
            *(f"- {key}: {_prose(value)}" for key, value in card.facts.items()),
            f"- {_parameter_words(card)}",
            f"- options{_about_presets(card)}: {options}",
            "",
            "What differs from its source, and why:",
            "",
            *(f"- {_prose(deviation)}" for deviation in card.deviations or ("nothing",)),
        ]
    )


def _parameter_words(card: Card) -> str:
    """Return the parameters, in all and of each part, in Markdown."""
    if card.built is None:
        return f"parameters: unknown, it does not take {_COUNTED_FOR} ({_prose(card.refusal)})"
    parts = "; ".join(f"`{part}` {count:,}" for part, count in card.built.parts.items())
    return f"parameters: {card.built.parameters:,} ({parts})"


def markdown_document(cards: Sequence[Card]) -> str:
    """Return the table over methods and their cards, the whole of baselines/README.md."""
    rows = [
        [
            f"[{card.name}](#{card.name})",
            f"{card.built.parameters / 1e6:.2f}{' †' * bool(card.beware)}" if card.built else "-",
            ("yes" if card.built.sees_hidden else "no") if card.built else "-",
            *map(
                _prose, (card.licence or "not stated", card.paper, card.source, card.parity or "not stated")
            ),
        ]
        for card in cards
    ]
    return "\n".join(
        [
            *_PREAMBLE,
            "",
            *(f"| {' | '.join(cells)} |" for cells in (_HEADERS, ["---"] * len(_HEADERS), *rows)),
            "",
            "\n\n".join(map(markdown_card, cards)),
        ]
    )


def _about_presets(card: Card) -> str:
    """Say what None means where options override those of a preset."""
    return " (None is the preset's value)" if "preset" in card.options else ""


def _prose(text: str) -> str:
    """Return text in which nothing is markup; an underscore within a word is none."""
    return re.sub(r"([\\`*<|]|(?<!\w)_|_(?!\w))", r"\\\1", text)
