"""Batches and background responses in the ledger: who ordered what, and which results have been read.

An order is charged at its bound by the row of its creation. Each result that is read becomes a row of its own and takes
its bound out of that one, once, in one transaction with the shared limits: whoever reads it, and however often. When
nothing is left to be read, the row of the creation has nothing left to say and is deleted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import orjson

from bursar.schema import amounts as amount_columns
from bursar.tracing.spool import HASHED
from bursar.tracing.values import json_safe, safe, to_json
from bursar.words.errors import UnknownScope
from bursar.words.events import NOTHING, Amounts
from bursar.words.ports import Posting, Scope
from bursar.words.records import Item, Order, Tags, Who

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bursar.db import Run
    from bursar.tracing.ledger import Ledger
    from bursar.words.records import ModelCall, Result

_ITEM: Final = ("deferred", "name", "call_id", "model", "mark", "read_us", *amount_columns("bound"))
_INSERT_ITEM: Final = (
    f"INSERT OR REPLACE INTO deferred_item ({', '.join(_ITEM)}) VALUES ({', '.join('?' * len(_ITEM))})"
)
_SHRINK: Final = (
    "UPDATE attempt SET "
    "input_tokens = max(0, input_tokens - ?), output_tokens = max(0, output_tokens - ?), "
    "cost_nusd = max(0, cost_nusd - ?), cost_input_nusd = max(0, cost_input_nusd - ?) WHERE call_id = ?"
)
_MEND_RUNS: Final = """
WITH RECURSIVE line (run_id) AS (
    SELECT ? UNION SELECT r.parent_run_id FROM run r JOIN line l ON l.run_id = r.run_id WHERE r.parent_run_id NOT NULL
)
UPDATE run SET cost_nusd = cost_nusd + ?, tokens = tokens + ?, tool_calls = tool_calls + ?,
    unmeasured_nusd = unmeasured_nusd + ?
WHERE ended_us IS NOT NULL AND run_id IN (SELECT run_id FROM line)
"""


class Books(Protocol):
    """The shared limits, within a transaction of the ledger's."""

    def post(self, run: Run, posting: Posting) -> None:
        """Charge what was not charged before."""

    def correct(self, run: Run, call_id: str, path: tuple[Scope, ...], delta: Amounts, doubt: Amounts) -> None:
        """Correct a part of what was charged at a bound."""


class _Row(NamedTuple):
    id: int
    call_id: str | None
    run_id: str | None
    place: str
    unread: int | None


class Orders:
    """The orders of one ledger. Every method raises what `Ledger.transact` raises, and has then done nothing."""

    def __init__(self, ledger: Ledger, books: Books) -> None:
        self._ledger, self._books = ledger, books

    def place(self, order: Order, *, read: bool = False) -> None:
        """Write an order down, or one whose results have been `read` already; one that is known stays as it is."""
        self._ledger.transact(lambda run: self._place(run, order, read=read))

    def name_files(self, ref: str, files: Sequence[str]) -> None:
        """Note that these files hold the results of an order."""

        def work(run: Run) -> None:
            for file in files:
                run("INSERT OR IGNORE INTO deferred_file VALUES (?, ?)", safe((file, ref)))

        self._ledger.transact(work)

    def of_file(self, file: str) -> str | None:
        """Which order's results a file holds."""
        found = self._ledger.database().execute("SELECT ref FROM deferred_file WHERE file = ?", safe((file,)))
        return found[0][0] if found else None

    def find(self, ref: str) -> Order | None:
        """An order, without its items."""
        found = self._ledger.database().execute(
            "SELECT kind, provider, host, call_id, tags, user_hash, session_id, run_id, step, made_us, tier, region, "
            "place FROM deferred WHERE ref = ?",
            safe((ref,)),
        )
        if not found:
            return None
        kind, provider, host, call_id, tags, user, session, run_id, step, made_us, tier, region, place = found[0]
        named = orjson.loads(tags)
        named["extra"] = tuple((name, value) for name, value in named["extra"])
        who = Who(Tags(**named), None if user is None else HASHED + user, session)
        path = tuple((kind, name, window) for kind, name, window in orjson.loads(place))
        return Order(ref, kind, provider, host, call_id, who, run_id, step, made_us, tier, region, path)

    def item(self, ref: str, name: str) -> Item | None:
        """One item of an order."""
        found = self._ledger.database().execute(
            f"SELECT i.name, i.call_id, i.model, {_bounds('i.')} FROM deferred_item i "
            "JOIN deferred d ON d.id = i.deferred WHERE d.ref = ? AND i.name = ?",
            safe((ref, name)),
        )
        if not found:
            return None
        name, call_id, model, *bound = found[0]
        return Item(name, call_id, model, Amounts(*bound))

    def settle(self, order: Order, results: Sequence[Result], now_us: int) -> list[ModelCall]:
        """Take in results of an order; the rows of those that were not read before."""

        def work(run: Run) -> list[ModelCall]:
            row = self._row(run, order.ref)
            if row is None:
                self._place(run, order)
                row = self._row(run, order.ref)
                assert row is not None
            settled = [call for result in results if (call := self._settle(run, row, result, now_us)) is not None]
            if settled and row.call_id is not None and self._unread(run, row) == 0:
                _end(run, row)
            for call in settled:
                # Behind the deletion of the row that stood for it: a background response keeps its id.
                self._ledger.insert(run, call)
            return settled

        return self._ledger.transact(work)

    def finish(self, ref: str) -> None:
        """Note that the results of an order whose requests are not known have been read to their end."""

        def work(run: Run) -> None:
            row = self._row(run, ref)
            if row is not None and row.unread is None and row.call_id is not None:
                _end(run, row)

        self._ledger.transact(work)

    def unread(self, ref: str) -> list[str]:
        """The names of the items of an order that no result was read of."""
        found = self._ledger.database().execute(
            "SELECT i.name FROM deferred_item i JOIN deferred d ON d.id = i.deferred "
            "WHERE d.ref = ? AND i.read_us IS NULL",
            safe((ref,)),
        )
        return [name for (name,) in found]

    def _place(self, run: Run, order: Order, *, read: bool = False) -> None:
        if self._row(run, order.ref) is not None:
            return
        tags = to_json(json_safe(order.who.tags._asdict()))
        place = orjson.dumps([json_safe(scope) for scope in order.path]).decode()
        values = (
            order.ref, order.kind, order.provider, order.host, order.call_id, self._ledger.hash_of(order.who.user),
            order.who.session, order.run_id, order.step, order.ts_us, order.tier, order.region,
        )  # fmt: skip
        run(
            "INSERT INTO deferred (ref, kind, provider, host, call_id, user_hash, session_id, run_id, step, made_us, "
            "tier, region, unread, tags, place) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*safe(values), None if order.items is None or read else len(order.items), tags, place),
        )
        row = self._row(run, order.ref)
        assert row is not None
        for item in order.items or ():
            read_us = order.ts_us if read else None
            run(_INSERT_ITEM, (*safe((row.id, item.name, item.call_id, item.model)), None, read_us, *item.bound))

    def _row(self, run: Run, ref: str) -> _Row | None:
        found = run("SELECT id, call_id, run_id, place, unread FROM deferred WHERE ref = ?", safe((ref,)))
        return _Row(*found[0]) if found else None

    def _unread(self, run: Run, row: _Row) -> int | None:
        found: int | None = run("SELECT unread FROM deferred WHERE id = ?", (row.id,))[0][0]
        return found

    def _settle(self, run: Run, row: _Row, result: Result, now_us: int) -> ModelCall | None:
        name = safe((result.name,))[0]
        found = run(
            f"SELECT call_id, read_us, {_bounds()} FROM deferred_item WHERE deferred = ? AND name = ?", (row.id, name)
        )
        if found and found[0][1] is not None:
            return None
        call, bound = result.call, NOTHING
        if found:
            call.call_id, bound = found[0][0], Amounts(*found[0][2:])
        # Read before under another name: from a file of which nobody knew whose it was.
        twice = result.mark is not None and bool(
            run("SELECT 1 FROM deferred_item WHERE mark = ?", safe((result.mark,)))
        )
        actual = NOTHING if twice else result.actual
        run(_INSERT_ITEM, (row.id, name, call.call_id, *safe((call.request_model, result.mark)), now_us, *bound))
        if found and row.unread is not None:
            run("UPDATE deferred SET unread = unread - 1 WHERE id = ?", (row.id,))
        if row.call_id is not None:
            run(_SHRINK, (bound.input_tokens, bound.output_tokens, bound.nusd, bound.nusd, row.call_id))
        delta = Amounts(*(new - old for new, old in zip(actual, bound, strict=True)))
        doubt = Amounts(*((0 if result.measured else new) - old for new, old in zip(actual, bound, strict=True)))
        self._charge(run, row, call.call_id, delta, doubt, measured=result.measured)
        if row.run_id is not None:
            run(_MEND_RUNS, (row.run_id, delta.nusd, delta.tokens, delta.tool_calls, doubt.nusd))
        return None if twice else call

    def _charge(self, run: Run, row: _Row, call_id: str, delta: Amounts, doubt: Amounts, *, measured: bool) -> None:
        path = tuple(Scope(*scope) for scope in orjson.loads(row.place))
        if not path:
            return
        try:
            if row.call_id is None:
                self._books.post(run, Posting(call_id, path, delta, measured))
            else:
                self._books.correct(run, row.call_id, path, delta, doubt)
        except UnknownScope:
            # A window of months ago: its account is gone.
            return


def _end(run: Run, row: _Row) -> None:
    run("DELETE FROM attempt WHERE call_id = ?", (row.call_id,))


def _bounds(prefix: str = "") -> str:
    return ", ".join(f"{prefix}{name}" for name in amount_columns("bound"))
