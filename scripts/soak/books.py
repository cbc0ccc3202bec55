"""The provider's bill and the ledger, read so that they can be laid beside each other."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from bursar.db import open_ledger
from bursar.stores.base import State
from bursar.stores.sqlite import SqliteStore
from scripts.soak.marks import mark_of

if TYPE_CHECKING:
    from pathlib import Path

    from bursar.stores.base import HoldRecord
    from bursar.testing import Charge, Provider

_IDENT: Final = 24
"""How long the part of an answer's id is that is the same in every API."""
_ROWS: Final = """
SELECT r.run_id, c.call_id, c.response_id, c.cost_nusd, c.held_nusd, c.held_tokens, c.input_tokens, c.output_tokens,
       c.sent_max_tokens, e.bound, e.flags, e.usage_source, e.status, d.path, e.cost_status
FROM model_call c LEFT JOIN run r ON r.number = c.run JOIN ending e ON e.id = c.ending
JOIN dimension d ON d.id = c.dimension
WHERE json_extract(d.extra, '$.source') IS NULL
"""
"""What operators import beside the program is no call of it."""
_SURE: Final = frozenset({"list_price", "provider"})
"""Costs that are the bill, if the provider's counts are."""


class Row(NamedTuple):
    """One attempt as the ledger has it."""

    run_id: str | None
    call_id: str
    response_id: str | None
    nusd: int
    held_nusd: int | None
    held_tokens: int | None
    input_tokens: int
    output_tokens: int
    cap: int | None
    bound: str | None
    flags: str
    source: str
    status: str
    path: str
    cost_status: str

    @property
    def measured(self) -> bool:
        """Whether it is what the provider counted, at its list price or at what it says, or was never billed."""
        return self.source == "none" or (self.source == "provider" and self.cost_status in _SURE)

    @property
    def excess_nusd(self) -> int:
        """What it cost beyond its hold; tools of its answer are no part of either."""
        if "overrun" not in self.flags.split():
            return 0
        return max(0, self.nusd - (self.held_nusd or 0))


@dataclass
class Bill:
    """What the provider charged: by mark, by user, by answer; and what was attached to what it answered."""

    by_mark: Counter[str] = field(default_factory=Counter)
    by_user: Counter[str] = field(default_factory=Counter)
    answers: dict[str, Charge] = field(default_factory=dict)
    attached: dict[str, str] = field(default_factory=dict)
    calls: int = 0

    @property
    def nusd(self) -> int:
        """All of it."""
        return sum(self.by_mark.values())


def read_bill(provider: Provider) -> Bill:
    """Sort the provider's charges. Raises `LookupError` for one that nobody has marked."""
    owner = {request.number: mark_of(request.body) for request in provider.requests}
    attached = {request.number: _attached(request.body) for request in provider.requests}
    bill = Bill()
    for charge in provider.charges:
        mark = owner[charge.number]
        if mark is None:
            raise LookupError(f"nobody's mark is in what was charged as {charge}")
        bill.by_mark[mark.name] += charge.nusd
        bill.by_user[mark.user] += charge.nusd
        bill.calls += 1
        if charge.answer:
            bill.answers[charge.answer] = charge
            bill.attached[charge.answer] = attached[charge.number]
    return bill


@dataclass
class Kept:
    """The ledger: rows by outermost run, what dead processes left, accounts, and how much content is kept."""

    rows: dict[str, list[Row]]
    presumed_nusd: int
    held: list[HoldRecord]
    accounts: list[tuple[str, str, str, int, int]]
    contents: int

    @property
    def all_rows(self) -> list[Row]:
        """Every attempt."""
        return [row for rows in self.rows.values() for row in rows]


def read_ledger(path: Path) -> Kept:
    """Read a ledger. Holds of the dead are to be recovered before."""
    database = open_ledger(path, read_only=True)
    parents = dict(database.execute("SELECT run_id, parent_run_id FROM run"))
    rows: dict[str, list[Row]] = defaultdict(list)
    for found in database.execute(_ROWS):
        row = Row(*found)
        rows[_outermost(row.run_id, parents)].append(row)
    written = {row[0] for row in database.execute("SELECT call_id FROM model_call UNION SELECT call_id FROM tool_call")}
    store = SqliteStore.at(path)
    holds = list(store.scan())
    store.close()
    presumed = [each for each in holds if each.state is State.PRESUMED and each.call_id not in written]
    held = [each for each in holds if each.state is State.HELD]
    accounts = database.execute("SELECT kind, name, limits, settled_nusd, held_nusd FROM account")
    contents = database.execute("SELECT count(*) FROM content")
    database.close()
    presumed_nusd = sum(each.charged.nusd for each in presumed)
    return Kept(dict(rows), presumed_nusd, held, list(accounts), contents[0][0])


def answer_of(row: Row) -> str:
    """What the provider's charge is found by."""
    return (row.response_id or "")[-_IDENT:]


def _attached(body: dict[str, Any]) -> str:
    text = json.dumps(body)
    return " and ".join(name for sign, name in (("image/png", "pictures"), ("application/pdf", "PDFs")) if sign in text)


def _outermost(run_id: str | None, parents: dict[str, str | None]) -> str:
    while run_id is not None and parents.get(run_id) is not None:
        run_id = parents[run_id]
    return run_id or ""
