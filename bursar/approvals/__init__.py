"""Approvers answer what gates ask: `Question` is what they are given, `Reply` what they say. Loaded at first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bursar.words.questions import Question, Reply

__all__ = ["Question", "Reply"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'bursar.approvals' has no attribute {name!r}")
    value = getattr(import_module("bursar.words.questions"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
