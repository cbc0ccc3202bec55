"""Attach to whatever runs tools and models for you. Names are loaded at first use: this imports none of them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bursar.callbacks.agents import BursarMiddleware
    from bursar.callbacks.langchain import BursarCallbackHandler

__all__ = ["BursarCallbackHandler", "BursarMiddleware"]

_HOMES = {
    "BursarCallbackHandler": "bursar.callbacks.langchain",
    "BursarMiddleware": "bursar.callbacks.agents",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'bursar.callbacks' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
