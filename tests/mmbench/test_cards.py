"""The cards of methods: complete, counted from the networks, and baselines/README.md is what they say."""

import dataclasses
import re
from pathlib import Path

import pytest
import torch
from torch import nn

from mmbench.cli import main
from mmbench.registry import entries, find
from mmbench.reporting import cards
from mmbench.reporting.card_texts import COMMAND, console_card, markdown_card
from mmbench.reporting.cards import method_card
from mmbench.testing.methods import check_facts
from mmbench_baselines.method import Method
from mmbench_baselines.optim import OptimizerParams, ScheduleParams, TrainingParams

README = Path(__file__).parents[2] / "baselines" / "README.md"
OWN = sorted(name for name, entry in entries("method").items() if entry.origin == "mmbench")


@pytest.fixture
def call(capfd):
    def run(*arguments):
        code = main(list(arguments))
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return run


class Stub(Method):
    """Says nothing of itself but what it must.

    And more in its second paragraph.
    """

    title, paper, source = "Stub_", "none", "a|b *c*"
    paper_training = TrainingParams(OptimizerParams("sgd", lr=0.1), ScheduleParams("constant"), 2)

    def __init__(self, modalities, num_classes, *, ignore_index=255, width=3):
        super().__init__(modalities, num_classes, ignore_index=ignore_index)
        self.head = nn.Conv2d(sum(modalities.values()), num_classes, 1)

    def forward(self, images, present):
        raise NotImplementedError

    def loss(self, output, batch):
        raise NotImplementedError


@pytest.fixture
def card_of(monkeypatch):
    """The card of a class that no file holds."""

    def make(method_class):
        monkeypatch.setattr(cards, "find", lambda kind, name: method_class)
        monkeypatch.setattr(cards, "entry", lambda kind, name: entries("method")["shaspec"])
        return method_card("stub")

    return make


def test_the_readme_of_the_baselines_is_what_its_command_writes(call):
    command, _, path = COMMAND.removeprefix("python -m mmbench ").partition(" > ")
    assert README.samefile(Path(__file__).parents[2] / path)
    code, out, _ = call(*command.split())
    assert code == 0
    assert README.read_text(encoding="utf-8") == out, f"it is stale: {COMMAND}"


def test_the_readme_has_a_row_and_a_section_for_every_method_and_says_how_it_is_written():
    text = README.read_text(encoding="utf-8")
    assert COMMAND in text
    assert re.findall(r"^\| \[(\w+)\]\(#\1\) \|", text, re.MULTILINE) == OWN
    assert re.findall(r"^## (\w+)$", text, re.MULTILINE) == OWN


@pytest.mark.parametrize("name", OWN)
def test_a_method_of_the_repository_states_every_fact(name):
    card = method_card(name)
    for fact in ("title", "summary", "paper", "source", "licence", "parity"):
        assert getattr(card, fact), fact
    assert card.deviations
    assert card.summary.endswith(".")
    if "commit" not in card.source:
        assert "no published code" in card.source or "no official definition" in card.source


@pytest.mark.parametrize("name", OWN)
def test_the_parts_of_a_method_make_up_all_of_it_and_are_counted_at_its_defaults(name):
    built = method_card(name).built
    method = find("method", name)({"irrg": 3, "ndsm": 1}, 6)
    assert built.parameters == sum(p.numel() for p in method.parameters())
    assert sum(built.parts.values()) == built.parameters
    assert built.sees_hidden == method.sees_hidden_in_training


def test_published_methods_are_those_with_goldens_and_say_what_was_compared():
    goldens = {path.stem for path in (README.parents[1] / "tests" / "golden").glob("*.npz")}
    compared = {name for name in OWN if "authors' code" in method_card(name).parity}
    assert compared == goldens
    assert "no licence file" in method_card("shaspec").licence
    for name in ("ae", "cgan"):
        assert method_card(name).parity.startswith("no public code: regression numbers")


def test_patterns_under_paper_are_said_by_phase():
    assert method_card("gemmnet").built.patterns == "full 1/3, irrg 1/3, ndsm 1/3"
    assert method_card("early_fusion").built.patterns == "full in every sample"
    assert method_card("shaspec").built.patterns == (
        "from 0 % of the steps full in every sample; from 44 % of the steps full 1/2, irrg 1/4, ndsm 1/4"
    )


def test_hiding_that_changes_with_every_step_is_said_by_its_ends(card_of):
    class Ramp(Stub):
        def patterns(self, step, total_steps):
            share = step / total_steps
            return {(True, True): 1 - share, (True, False): share}

    words = card_of(Ramp).built.patterns
    assert words == "from full in every sample to full 1/900, irrg 899/900, in 900 phases"


def test_the_papers_training_is_said_with_what_is_not_a_default():
    assert method_card("gemmnet").training == (
        "sgd lr=0.001 momentum=0.99 nesterov=True; warm_restarts period=15; 8 micro-batches a step"
    )
    assert method_card("mmformer").training == (
        "adam lr=0.0002 weight_decay=0.0001 amsgrad=True; poly power=0.9"
    )


def test_what_a_plug_in_does_not_state_is_said_to_be_unstated(card_of):
    card = card_of(Stub)
    text = console_card(card)
    assert text.startswith("stub: Stub_\nSays nothing of itself but what it must.\n\npaper")
    assert re.search(r"^licence\s+not stated$", text, re.MULTILINE)
    assert re.search(r"^reproduced\s+not stated$", text, re.MULTILINE)
    assert re.search(
        r"^optimiser under paper\s+sgd lr=0.1; constant; 2 micro-batches a step$", text, re.MULTILINE
    )
    assert re.search(r"^  head\s+30$", text, re.MULTILINE)
    assert "  - width = 3" in text
    assert "beware" not in text
    assert "preset's value" not in text


@pytest.mark.parametrize("fact", ["licence", "parity", "beware"])
def test_the_contract_takes_an_unstated_fact_and_refuses_one_that_is_no_text(fact):
    check_facts(Stub)
    wrong = type("Wrong", (Stub,), {fact: None})
    with pytest.raises(AssertionError, match=f"{fact} is None, expected a text"):
        check_facts(wrong)


def test_texts_cannot_become_markup_in_markdown(card_of):
    text = markdown_card(card_of(Stub))
    assert r"Stub\_. Says" in text
    assert r"a\|b \*c\*" in text


def test_a_method_for_other_modalities_has_a_card_without_numbers(card_of):
    class ForThree(Stub):
        def __init__(self, modalities, num_classes, **options):
            raise ValueError(f"got {len(modalities)} modalities, expected 3")

    card = card_of(ForThree)
    assert card.built is None
    for text in (console_card(card), markdown_card(card)):
        assert "it does not take irrg (3) + ndsm (1), 6 classes (got 2 modalities, expected 3)" in text
        assert "hidden content" not in text


def test_what_a_table_must_say_of_a_method_stands_in_its_card():
    card = method_card("expert_switch")
    assert re.search(rf"^beware\s+{re.escape(card.beware)}$", console_card(card), re.MULTILINE)
    without = dataclasses.replace(card, beware="")
    assert "beware" not in console_card(without)


def test_info_prints_the_card_in_either_format(call):
    code, out, _ = call("info", "gemmnet")
    assert code == 0
    assert out == console_card(method_card("gemmnet")) + "\n"
    code, out, _ = call("info", "gemmnet", "--format", "markdown")
    assert code == 0
    assert out == markdown_card(method_card("gemmnet")) + "\n"
    code, out, _ = call("info", "--all-methods")
    assert code == 0
    assert all(f"{name}: {find('method', name).title}\n" in out for name in OWN)


def test_no_memory_is_taken_for_the_weights(monkeypatch):
    devices = set()
    build = nn.Module.parameters

    def spy(self, recurse=True):
        for parameter in build(self, recurse):
            devices.add(parameter.device)
            yield parameter

    monkeypatch.setattr(nn.Module, "parameters", spy)
    method_card("modality_dropout")
    assert devices == {torch.device("meta")}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "or --all-methods"),
        (["gemmnet", "--all-methods"], "or --all-methods"),
        (["gemmnet", "--format", "latex"], "expected one of console, markdown"),
        (["smoke", "--format", "markdown"], "'smoke' is none"),
    ],
)
def test_a_wrong_question_is_one_line_with_code_2(call, arguments, words):
    code, out, err = call("info", *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert words in err


@pytest.mark.parametrize("style", ["console", "markdown"])
def test_an_unknown_name_is_code_3_whatever_the_format(call, style):
    code, _, err = call("info", "shapsec", "--format", style)
    assert code == 3
    assert "Did you mean 'shaspec'?" in err
