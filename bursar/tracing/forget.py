"""Forget a user: his hash goes from every row, and what was kept of his conversations is deleted."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

import orjson

from bursar.settings.limits import scope_name
from bursar.tracing.sums_file import discard
from bursar.tracing.users import FORGOTTEN, VARIABLE, read_user_keys
from bursar.words.errors import LedgerError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bursar.db import Database, Run
    from bursar.tracing.ledger import Ledger

_BATCH: Final = 1_000
_CALLS: Final = "FROM attempt WHERE caller IN (SELECT id FROM caller WHERE user_hash = ?)"
_HIS: Final = f"SELECT call_id {_CALLS} UNION ALL SELECT call_id FROM tool_call WHERE user_hash = ?"


class Found(NamedTuple):
    """How much of a user there is, or was: attempts, runs, calls whose content is kept, and tool calls."""

    model_calls: int
    runs: int
    contents: int
    tool_calls: int


def count_user(ledger: Ledger, user: str) -> Found:
    """Count what `forget_user` would change. Raises `LedgerError`."""
    return _asked(ledger, _found, user)


def forget_user(ledger: Ledger, user: str) -> Found:
    """Unlink a user from all rows and delete his content; says what was changed. Raises `LedgerError`.

    Session ids go with him, since they tell his rows from others'. Trace logs and backups are files of their own: they
    are not touched. The bytes are overwritten in the ledger file; whoever has it open for reading delays that.
    """
    return _asked(ledger, _forget, user)


def _asked(ledger: Ledger, ask: Callable[[Database, str], Found], user: str) -> Found:
    import apsw

    try:
        found = [ask(ledger.database(), marked) for marked in _hashes(ledger.path, user)]
        return Found(*map(sum, zip(*found, strict=True)))
    except apsw.Error as error:
        raise LedgerError(f"the ledger {ledger.path} cannot be changed ({error})") from None


def _hashes(ledger: Path, user: str) -> tuple[str, ...]:
    keys = read_user_keys(ledger)
    if keys is None:
        # A new one would find nobody.
        raise LedgerError(
            f"the key of this ledger's users is missing: {ledger.with_name('user.key')}, or set {VARIABLE}"
        )
    return keys.hashes(user)


def _found(database: Database, marked: str) -> Found:
    calls = database.execute(f"SELECT count(*) {_CALLS}", (marked,))
    runs = database.execute("SELECT count(*) FROM run WHERE user_hash = ?", (marked,))
    contents = database.execute(f"SELECT count(*) FROM content WHERE call_id IN ({_HIS})", (marked, marked))
    tools = database.execute("SELECT count(*) FROM tool_call WHERE user_hash = ?", (marked,))
    return Found(calls[0][0], runs[0][0], contents[0][0], tools[0][0])


def _forget(database: Database, marked: str) -> Found:
    found = _found(database, marked)
    database.execute("PRAGMA secure_delete=1")
    database.transact(lambda run: _unname(run, marked))
    ids = [row[0] for row in database.execute(_HIS, (marked, marked))]
    for first in range(0, len(ids), _BATCH):
        # Few rows at a time, so that calls that are being made meanwhile get their turn.
        some = (orjson.dumps(ids[first : first + _BATCH]).decode(),)
        database.transact(partial(_clear, some))
    database.transact(
        lambda run: [
            run(f"UPDATE {table} SET user_hash = '{FORGOTTEN}', session_id = NULL WHERE user_hash = ?", (marked,))
            for table in ("caller", "run", "deferred")
        ]
    )
    database.transact(
        lambda run: run(
            f"UPDATE approval SET user_hash = '{FORGOTTEN}', arguments = NULL, edited = NULL, reason = NULL "
            "WHERE user_hash = ?",
            (marked,),
        )
    )
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    # The sums beside it know his hash; whoever reads next makes them again.
    discard(database.path)
    return found


def _clear(some: tuple[str], run: Run) -> None:
    run("DELETE FROM content WHERE call_id IN (SELECT value FROM json_each(?))", some)
    run(
        f"UPDATE tool_call SET user_hash = '{FORGOTTEN}', session_id = NULL "
        "WHERE call_id IN (SELECT value FROM json_each(?))",
        some,
    )


def _unname(run: Run, marked: str) -> None:
    # Shared limits of his keep their balances, and what refused him keeps its numbers.
    sessions = run("SELECT DISTINCT session_id FROM caller WHERE user_hash = ? AND session_id NOT NULL", (marked,))
    for kind, value in [("user", marked), *(("session", session) for (session,) in sessions)]:
        name = scope_name(value)
        run(f"UPDATE account SET name = '{FORGOTTEN} ' || id WHERE kind = ? AND name = ?", (kind, name))
        run("UPDATE verdict SET scope = replace(scope, ?, ?) WHERE instr(scope, ?)", (name, FORGOTTEN, name))
