"""The cost gate's rules: what they ask and deny, and that a gate which could never act is refused."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from bursar import ConfigError, CostGate
from bursar.guards.gate_rules import Subject, judge

CENT = 10_000_000


def said(subject: Subject, *gates: CostGate) -> list[tuple[str, str]]:
    return [(ruling.action, ruling.why) for ruling in judge([gate.rule() for gate in gates], subject)]


def tool(name: str = "wire_money", nusd: int | None = 2 * CENT, **more: Any) -> Subject:
    return Subject("tool", name, nusd, nusd, **more)


@pytest.mark.parametrize(
    ("subject", "gate", "action"),
    [
        (Subject("model", "m", 2 * CENT, 9 * CENT), CostGate(ask_above_usd="0.01"), "ask"),
        (Subject("model", "m", CENT, 9 * CENT), CostGate(ask_above_usd="0.01"), None),
        (Subject("model", "m", 1, 9 * CENT), CostGate(deny_above_usd="0.05"), "deny"),
        (Subject("model", "m", 1, 5 * CENT), CostGate(deny_above_usd="0.05"), None),
        (Subject("model", "m", None, None), CostGate(ask_above_usd="0.05"), "ask"),
        (Subject("model", "m", None, None), CostGate(deny_above_usd="0.05"), "deny"),
        (Subject("model", "m", 2 * CENT, 2 * CENT, left_nusd=7 * CENT), CostGate(ask_above_share="25%"), "ask"),
        (Subject("model", "m", 2 * CENT, 2 * CENT, left_nusd=8 * CENT), CostGate(ask_above_share="25%"), None),
        (Subject("model", "m", 2 * CENT, 2 * CENT), CostGate(ask_above_share="25%"), None),
        (Subject("model", "opus", 1, 1, top=True), CostGate(model="top", ask="always"), "ask"),
        (Subject("model", "opus", 1, 1, top=True), CostGate(model="top", top=["sonnet*"], ask="always"), None),
        (Subject("model", "sonnet-5", 1, 1), CostGate(model="top", top=["sonnet*"], ask="always"), "ask"),
        (Subject("model", "m", 1, 1, dearer="dearer than declared"), CostGate(ask="dearer"), "ask"),
        (tool(), CostGate(tool="wire_*", ask="always"), "ask"),
        (tool("wirе_money"), CostGate(tool="wire_*", ask="always"), None),
        (tool("WIRE_money"), CostGate(tool="wire_*", ask="always"), None),
        (tool(effect="write"), CostGate(effect=["write", "poll"], ask="always"), "ask"),
        (tool(effect="read"), CostGate(effect="write", ask="always"), None),
        (tool(arguments={"amount": 300}), CostGate(when=lambda args: args["amount"] > 100, ask="always"), "ask"),
        (tool(arguments={"amount": 3}), CostGate(when=lambda args: args["amount"] > 100, ask="always"), None),
        (tool(arguments={}), CostGate(when=lambda args: args["amount"] > 100, ask="always"), "ask"),
        (tool(nusd=None), CostGate(ask_above_usd="0.05"), None),
        (tool(nusd=None), CostGate(tool="wire_*", ask_above_usd="0.05"), "ask"),
        (tool(), CostGate(model="*", ask="always"), None),
        (tool(), CostGate(tool="*", deny=True), "deny"),
    ],
)  # fmt: skip
def test_what_a_rule_says(subject: Subject, gate: CostGate, action: str | None) -> None:
    """It asks on the likely cost and denies on the bound; names are matched exactly, letter by letter."""
    assert [found for found, _ in said(subject, gate)] == ([] if action is None else [action])


def test_every_rule_is_heard_and_denials_come_first() -> None:
    """A looser gate beside a stricter one changes nothing, whichever is named first."""
    loose, strict = CostGate(ask_above_usd="5"), CostGate(ask_above_usd="0.01")
    never = CostGate(deny_above_usd="0.02")
    subject = Subject("model", "m", 3 * CENT, 3 * CENT)
    assert [action for action, _ in said(subject, loose, strict)] == ["ask"]
    assert [action for action, _ in said(subject, strict, loose, never)] == ["deny", "ask"]


def test_a_question_says_why_in_numbers() -> None:
    """The amounts that were compared are in the words."""
    [(_, why)] = said(Subject("model", "m", 3 * CENT, 4 * CENT), CostGate(ask_above_usd=Decimal("0.02")))
    assert why == "it will probably cost $0.03000, above $0.02000"


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ({}, "would never ask"),
        ({"tool": "wire_*"}, "would never ask"),
        ({"tool": "", "ask": "always"}, "no pattern"),
        ({"ask": "allways"}, "'allways' is none of"),
        ({"effect": "wirte", "ask": "always"}, "'wirte' is none of read"),
        ({"ask_above_usd": "1,0"}, "ask_above_usd='1,0'"),
        ({"ask_above_share": "0.5"}, "as in '80%'"),
        ({"tool": "x", "model": "y", "ask": "always"}, "not both"),
        ({"tool": "x", "ask": "dearer"}, "not both"),
        ({"ask": "always", "approver": "termnal"}, "'termnal' is not known"),
        ({"ask": "always", "approver": []}, "asks nobody"),
        ({"ask": "always", "approver": ["terminal", "inbox"]}, "'terminal 30s'"),
        ({"ask": "always", "timeout": "soon"}, "timeout='soon'"),
        ({"ask": "always", "top": ["opus*"]}, "model='top' stands for"),
    ],
)
def test_case_81_a_gate_that_cannot_be_meant_is_refused_when_it_is_made(given: dict[str, Any], what: str) -> None:
    """Misspelled and empty gates never gate nothing in silence."""
    with pytest.raises(ConfigError, match=what.replace("(", r"\(")):
        CostGate(**given)


@pytest.mark.parametrize("given", [{"ask_above_usd": 0.5}, {"ask": "always", "when": 3}, {"deny": "0.50"}])
def test_wrong_types_are_refused(given: dict[str, Any]) -> None:
    """Dollars are never a float, a predicate is a function, deny is no amount."""
    with pytest.raises(TypeError):
        CostGate(**given)
