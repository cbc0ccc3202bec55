"""Runtime guards and a cost ledger for LLM agents.

    client = bursar.wrap(anthropic.Anthropic())
    with bursar.run("triage", Budget(usd="0.50")) as run:
        my_agent_loop(client)
    print(run)

Names are loaded at first use: importing this package imports no SDK and no prices.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bursar._accounts import Spend
    from bursar._errors import (
        AlreadyCommitted,
        ApprovalDenied,
        ApprovalTimeout,
        BudgetExceeded,
        BursarError,
        BursarWarning,
        ConfigError,
        Conflict,
        InvalidAmount,
        LedgerError,
        LoopDetected,
        PriceDataError,
        PriceUnknown,
        RecordingError,
        RetriesExhausted,
        Stopped,
        StoreError,
        StoreUnavailable,
        Unattributed,
        UnknownScope,
    )
    from bursar._open import budget, current_run, run
    from bursar._process import configure
    from bursar._run import BudgetScope, Run
    from bursar._terms import BudgetNotice
    from bursar.callbacks.tools import tool
    from bursar.clients.receipts import Receipt, cost
    from bursar.clients.trim import WindowMemory, trim
    from bursar.clients.wrap import wrap
    from bursar.guards.budget import Budget
    from bursar.guards.calls import ToolTraits
    from bursar.guards.gate import CostGate
    from bursar.guards.loops import LoopGuard
    from bursar.guards.retries import RetryCap
    from bursar.guards.window import ContextWindow

__all__ = [
    "AlreadyCommitted",
    "ApprovalDenied",
    "ApprovalTimeout",
    "Budget",
    "BudgetExceeded",
    "BudgetNotice",
    "BudgetScope",
    "BursarError",
    "BursarWarning",
    "ConfigError",
    "Conflict",
    "ContextWindow",
    "CostGate",
    "InvalidAmount",
    "LedgerError",
    "LoopDetected",
    "LoopGuard",
    "PriceDataError",
    "PriceUnknown",
    "Receipt",
    "RecordingError",
    "RetriesExhausted",
    "RetryCap",
    "Run",
    "Spend",
    "Stopped",
    "StoreError",
    "StoreUnavailable",
    "ToolTraits",
    "Unattributed",
    "UnknownScope",
    "WindowMemory",
    "budget",
    "configure",
    "cost",
    "current_run",
    "run",
    "tool",
    "trim",
    "wrap",
]

_HOMES = {
    "configure": "bursar._process",
    "Run": "bursar._run",
    "BudgetScope": "bursar._run",
    "Spend": "bursar._accounts",
    "budget": "bursar._open",
    "current_run": "bursar._open",
    "run": "bursar._open",
    "BudgetNotice": "bursar._terms",
    "Receipt": "bursar.clients.receipts",
    "cost": "bursar.clients.receipts",
    "tool": "bursar.callbacks.tools",
    "WindowMemory": "bursar.clients.trim",
    "trim": "bursar.clients.trim",
    "wrap": "bursar.clients.wrap",
    "Budget": "bursar.guards.budget",
    "LoopGuard": "bursar.guards.loops",
    "ToolTraits": "bursar.guards.calls",
    "RetryCap": "bursar.guards.retries",
    "ContextWindow": "bursar.guards.window",
    "CostGate": "bursar.guards.gate",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'bursar' has no attribute {name!r}")
    value = getattr(import_module(_HOMES.get(name, "bursar._errors")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
