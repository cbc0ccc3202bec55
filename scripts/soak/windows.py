"""Shared limits of several tags, windows and ends at once, and whether their balances are what the rows say.

Limits of an hour, a day of Kolkata and for ever, on tenants, channels and topics: one refuses, one slows down, one
warns. What was charged to an account for a call is what its row says, call by call; no account that refuses is beyond
its limit by more than the overruns of its calls.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any, Final

from bursar.db import open_ledger
from bursar.settings.limits import scope_name

if TYPE_CHECKING:
    from pathlib import Path

TENANTS: Final = ("north", "south", "Öst", "west/1")
ZONE: Final = "Asia/Kolkata"
DECLARED: Final = "soak declared"
DECLARED_NUSD: Final = 4_000_000
LIMITS: Final = f"""
[[limit]]
per = "tenant"
window = "hour"
usd = "0.08"

[[limit]]
per = "tenant"
window = "day"
usd = "0.20"
model_calls = 400

[[limit]]
per = "tenant"
of = "north"
window = "total"
tokens = 150000

[[limit]]
per = "channel"
window = "hour"
model_calls = 3
over = "throttle:20/s"

[[limit]]
per = "topic"
window = "week"
usd = "0.0001"
over = "warn"

[workflow."{DECLARED}"]
owner = "desk"
promise = "offline"
usd_per_run = "0.004"
"""
WATCHED: Final = "watched only"
"""A tenant of runs that only watch: its limits are counted and refuse nothing."""
_KINDS: Final = ("tenant", "channel", "topic")
_CALLS: Final = """
SELECT e.call_id, e.path, e.charged_nusd, e.state, c.cost_nusd, n.flags, c.held_nusd
FROM ended e LEFT JOIN model_call c ON c.call_id = e.call_id LEFT JOIN ending n ON n.id = c.ending
"""


def judge_windows(ledger: Path) -> tuple[list[str], dict[str, Any]]:
    """What is wrong, and what there was."""
    database = open_ledger(ledger, read_only=True)
    accounts = {
        number: (kind, name, window, json.loads(limits), soft, settled, forgotten)
        for number, kind, name, window, limits, soft, settled, forgotten in database.execute(
            "SELECT id, kind, name, window, limits, soft, settled_nusd, forgotten_nusd FROM account"
        )
        if kind in _KINDS
    }
    faults: list[str] = []
    sums: Counter[int] = Counter()
    excess: Counter[int] = Counter()
    for call_id, path, charged, _, cost, flags, held in database.execute(_CALLS):
        ours = [number for number in map(int, path.split()) if number in accounts]
        if not ours:
            continue
        if cost is not None and cost != charged:
            faults.append(f"{call_id} is charged to {accounts[ours[0]][:3]} at {charged}, and its row says {cost}")
        for number in ours:
            sums[number] += charged
            excess[number] += max(0, charged - (held or 0)) if "overrun" in (flags or "").split() else 0
    tagged = database.execute(
        "SELECT c.call_id, d.tenant FROM model_call c JOIN dimension d ON d.id = c.dimension "
        "WHERE d.tenant IS NOT NULL AND d.env = 'production' AND c.cost_nusd > 0 "
        "AND c.call_id NOT IN (SELECT call_id FROM ended)"
    )
    faults += [f"{call_id} of tenant {tenant} is charged to no account" for call_id, tenant in tagged]
    database.close()
    windows: dict[str, set[str]] = defaultdict(set)
    for number, (kind, name, window, limits, soft, settled, forgotten) in accounts.items():
        windows[f"{kind}/{name}"].add(window)
        if settled != sums[number] + forgotten:
            what = f"has settled {settled}, and its calls are {sums[number]} and {forgotten}"
            faults.append(f"{kind}/{name} {window} {what}")
        limit = None if soft or name == scope_name(WATCHED) else limits.get("usd")
        if limit is not None and settled > limit + excess[number]:
            faults.append(f"{kind}/{name} {window} has settled {settled} of {limit}, overruns are {excess[number]}")
    return faults, {name: sorted(found) for name, found in sorted(windows.items())}
