"""An approver that a configuration names."""

from __future__ import annotations

from bursar.approvals import Question, Reply


def never(question: Question) -> Reply:
    return Reply(False, reason="not today")


def generous(question: Question) -> Reply:
    return Reply(True, raise_usd="1", by="finance")
