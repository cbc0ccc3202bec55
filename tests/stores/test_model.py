"""The protocol of holds as a model: all its interleavings are in order, and each of its rules is needed."""

from __future__ import annotations

import pytest

from scripts.hold_model import RULES, search


@pytest.mark.parametrize(("calls", "limit"), [(2, 4), (2, 5), (3, 4)])
def test_every_interleaving_is_in_order(calls: int, limit: int) -> None:
    """With all rules nothing is billed or settled beyond the limit, and nothing is left held or untold."""
    states, fault = search(calls, limit, frozenset(RULES))
    assert fault is None, "\n".join(fault)
    assert states > 50


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_is_needed(rule: str) -> None:
    """With it removed there is a way to overspend, to lose a charge or to hold for ever."""
    _, fault = search(2, 4, frozenset(RULES) - {rule})
    assert fault is not None
