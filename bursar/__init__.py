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
    from bursar.callbacks.tools import tool
    from bursar.clients.receipts import Receipt, cost
    from bursar.clients.trim import WindowMemory, trim
    from bursar.clients.wrap import wrap
    from bursar.flow.terms import BudgetNotice
    from bursar.guards.budget import Budget
    from bursar.guards.calls import ToolTraits
    from bursar.guards.gate import CostGate
    from bursar.guards.loops import LoopGuard
    from bursar.guards.retries import RetryCap
    from bursar.guards.window import ContextWindow
    from bursar.runs.accounts import Spend
    from bursar.runs.open import budget, current_run, run
    from bursar.runs.process import configure
    from bursar.runs.run import BudgetScope, Run
    from bursar.words.errors import (
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
    "configure": "bursar.runs.process",
    "Run": "bursar.runs.run",
    "BudgetScope": "bursar.runs.run",
    "Spend": "bursar.runs.accounts",
    "budget": "bursar.runs.open",
    "current_run": "bursar.runs.open",
    "run": "bursar.runs.open",
    "BudgetNotice": "bursar.flow.terms",
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
    value = getattr(import_module(_HOMES.get(name, "bursar.words.errors")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
