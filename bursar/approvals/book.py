"""Questions, answers and grants as rows of the ledger: the one place where any of them is decided.

Every step is one transaction that names the state it starts from. So of two answers one is taken, a yes is used once,
and a grant with an amount is never used beyond it, whichever processes are at it and whoever dies.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, Final

import orjson

from bursar.approvals.grants import Grants, new_grant
from bursar.approvals.rows import ROW, Row
from bursar.stores.owners import estate
from bursar.tracing.redact import redact
from bursar.tracing.values import clean
from bursar.words.errors import ConfigError, LedgerError
from bursar.words.money import parse_usd, show_usd

if TYPE_CHECKING:
    from bursar.db import Run
    from bursar.words.questions import Question, Reply

LONGEST_ARGUMENTS: Final = 200_000
"""Characters of arguments that are kept while a question is open; longer ones are cut in the middle."""
HOUR_US: Final = 3_600_000_000


class Book(Grants):
    """The questions of one ledger and the grants that came of them; see `Grants`.

    Raises `LedgerError` and apsw's errors where the file cannot be used.
    """

    def open(
        self,
        question: Question,
        *,
        until_us: int | None,
        asking: str,
        user_hash: str | None,
        place: str | None = None,
        asker: str | None = None,
    ) -> Row:
        """Write a question down. `asker`: the process that waits for it, where one does."""
        number = secrets.token_hex(16)
        text, whole = fitted(redact(question.arguments))
        values = (
            number, self.now_us(), until_us, "asked", question.kind, clean(question.name, 200),
            clean(question.workflow, 200), question.run_id, question.op_id, question.binding, place, 0, text,
            int(question.whole and whole), question.likely_nusd, question.bound_nusd, question.ceiling_nusd,
            question.sure, question.spent_nusd, question.left_nusd,
            orjson.dumps([clean(redact(rule), 400) for rule in question.rules]).decode(),
            clean(redact(question.why), 600), asking, None, None, None, None, None, None, None, None,
            question.limit_scope, question.short_nusd, None, asker, user_hash,
        )  # fmt: skip
        self._database().transact(
            lambda run: run(f"INSERT INTO approval ({ROW}, user_hash) VALUES ({', '.join('?' * 36)})", values)
        )
        return Row(*values[:-1])

    def row(self, number: str) -> Row | None:
        """A question by its id."""
        found = self._database().execute(f"SELECT {ROW} FROM approval WHERE id = ?", (number,))
        return Row(*found[0]) if found else None

    def like(self, beginning: str) -> list[Row]:
        """The questions whose ids begin so."""
        found = self._database().execute(
            f"SELECT {ROW} FROM approval WHERE id >= ? AND id < ?", (beginning, beginning + "~")
        )
        return [Row(*values) for values in found]

    def at(self, place: str) -> Row | None:
        """The newest question that was asked at a place of a graph."""
        found = self._database().execute(
            f"SELECT {ROW} FROM approval WHERE place = ? ORDER BY made_us DESC, id DESC LIMIT 1", (place,)
        )
        return Row(*found[0]) if found else None

    def skip(self, number: str) -> None:
        """Note that one more answer at the place of a question was to another one."""
        self._database().transact(lambda run: run("UPDATE approval SET skip = skip + 1 WHERE id = ?", (number,)))

    def show(self, number: str, asking: str, until_us: int | None) -> None:
        """Note who is asked now, and until when."""
        self._database().transact(
            lambda run: run(
                "UPDATE approval SET asking = ?, until_us = ? WHERE id = ? AND state = 'asked'",
                (asking, until_us, number),
            )
        )

    def decide(self, number: str, reply: Reply, *, by: str | None, via: str) -> tuple[Row, bool]:
        """Answer a question; the row as it then stands, and whether this answer was the one that was taken.

        Raises `LedgerError` where there is no such question, `ConfigError` for an amount that this call would not fit,
        and for a raise that cannot be made.
        """
        self._bury()
        now_us = self.now_us()
        edited = None if reply.arguments is None else orjson.dumps(dict(reply.arguments)).decode()

        def answer(run: Run) -> tuple[Row, bool]:
            found = run(f"SELECT {ROW} FROM approval WHERE id = ?", (number,))
            if not found:
                raise LedgerError(
                    f"there is no question {number[:40]!r}; `bursar approvals list` shows those there are"
                )
            row = Row(*found[0])
            if row.state != "asked" or (row.until_us is not None and row.until_us < now_us):
                return row, False
            raise_nusd = _raise(row, reply) if reply.yes else None
            grant_id = None
            if reply.yes and reply.scope != "once":
                grant_id = new_grant(run, row, reply, by, now_us)
            run(
                "UPDATE approval SET state = ?, decided_us = ?, by_whom = ?, via = ?, reason = ?, scope = ?, "
                "edited = ?, grant_id = ?, raise_nusd = ?, arguments = NULL WHERE id = ?",
                (
                    "approved" if reply.yes else "denied",
                    now_us,
                    None if by is None else clean(by, 100),
                    clean(via, 100),
                    None if reply.reason is None else clean(redact(reply.reason), 400),
                    reply.scope,
                    edited,
                    grant_id,
                    raise_nusd,
                    number,
                ),
            )
            return Row(*run(f"SELECT {ROW} FROM approval WHERE id = ?", (number,))[0]), True

        return self._database().transact(answer)

    def end(self, number: str) -> Row:
        """End a question that nobody has answered; the row as it then stands."""
        now_us = self.now_us()

        def ended(run: Run) -> Row:
            run(
                "UPDATE approval SET state = 'timeout', decided_us = ?, reason = 'nobody answered in time', "
                "arguments = NULL WHERE id = ? AND state = 'asked'",
                (now_us, number),
            )
            return Row(*run(f"SELECT {ROW} FROM approval WHERE id = ?", (number,))[0])

        return self._database().transact(ended)

    def withdraw(self, number: str) -> None:
        """End a question whose asker has gone before he had an answer: a yes that was said meanwhile is for nothing."""
        now_us, reason = self.now_us(), "whoever asked has gone"
        self._database().transact(
            lambda run: run(
                "UPDATE approval SET state = 'withdrawn', decided_us = ?, reason = ?, arguments = NULL "
                "WHERE id = ? AND state IN ('asked', 'approved', 'used')",
                (now_us, reason, number),
            )
        )

    def use(self, number: str, binding: str, bound_nusd: int | None) -> bool:
        """Use a yes, once: False where it is used up, was to something else, or to a lower price."""
        now_us = self.now_us()

        def used(run: Run) -> bool:
            found = run(
                "UPDATE approval SET state = 'used', used_us = ? WHERE id = ? AND state = 'approved' AND binding = ? "
                "AND ((ceiling_nusd IS NULL AND ? IS NULL) OR ceiling_nusd >= ?) RETURNING id",
                (now_us, number, binding, bound_nusd, bound_nusd),
            )
            return bool(found)

        return self._database().transact(used)

    def open_ones(self) -> list[Row]:
        """Questions that wait for an answer, the oldest first; those of processes that are gone wait no more."""
        self._bury()
        found = self._database().execute(
            f"SELECT {ROW} FROM approval WHERE state = 'asked' AND (until_us IS NULL OR until_us >= ?) "
            "ORDER BY made_us",
            (self.now_us(),),
        )
        return [Row(*values) for values in found]

    def latest(self, since_us: int, most: int) -> list[Row]:
        """All questions since a moment, the newest first."""
        self._bury()
        found = self._database().execute(
            f"SELECT {ROW} FROM approval WHERE made_us >= ? ORDER BY made_us DESC LIMIT ?", (since_us, most)
        )
        return [Row(*values) for values in found]

    def raises(self) -> list[Row]:
        """The questions whose answers have raised a budget, or would have, the newest first."""
        found = self._database().execute(
            f"SELECT {ROW} FROM approval WHERE raise_nusd IS NOT NULL ORDER BY made_us DESC"
        )
        return [Row(*values) for values in found]

    def asked_within_an_hour(self, rules: str) -> list[tuple[str, int | None]]:
        """State and likely cost of what the same gates asked about within the last hour."""
        found = self._database().execute(
            "SELECT state, likely_nusd FROM approval WHERE made_us >= ? AND rules = ?", (self.now_us() - HOUR_US, rules)
        )
        return [(state, nusd) for state, nusd in found]

    def _bury(self) -> None:
        """End the questions of processes that are gone, and those of kept graphs whose time is over."""
        database, now_us = self._database(), self.now_us()
        for (asker,) in database.execute("SELECT DISTINCT asker FROM approval WHERE state = 'asked'"):
            # Who asks and lives ends it himself, unless he was cancelled while he was writing it down.
            over_us = now_us if asker is None else now_us - HOUR_US
            self._end_all("asker IS ? AND until_us < ?", (asker, over_us), "timeout", "nobody answered in time")
            if asker is None:
                continue
            with estate(database.path, asker) as left:
                if left is not None:
                    self._end_all("asker = ?", (asker,), "withdrawn", "the process that asked is gone")
                    left.clear()

    def _end_all(self, which: str, values: tuple[Any, ...], state: str, reason: str) -> None:
        changes = "state = ?, decided_us = ?, reason = ?, arguments = NULL"
        given = (state, self.now_us(), reason, *values)
        text = f"UPDATE approval SET {changes} WHERE state = 'asked' AND {which}"
        self._database().transact(lambda run: run(text, given))


def _raise(row: Row, reply: Reply) -> int | None:
    if row.short_nusd is not None and reply.scope != "once":
        raise ConfigError("a full budget is raised by an amount and not opened: leave scope out, name raise_usd")
    if reply.raise_usd is None:
        return row.short_nusd
    nusd = parse_usd(reply.raise_usd, "raise_usd")
    if row.limit_scope is None:
        raise ConfigError(
            f"raise_usd={str(reply.raise_usd)!r}: no budget of this run limits dollars, or none that an answer may "
            "raise; limits that processes share are raised by `bursar limits raise`"
        )
    if row.short_nusd is not None and nusd < row.short_nusd:
        raise ConfigError(
            f"raise_usd={str(reply.raise_usd)!r} is less than this call lacks: {show_usd(row.short_nusd)}"
        )
    return nusd


def fitted(text: str, longest: int = LONGEST_ARGUMENTS) -> tuple[str, bool]:
    """A text with its middle cut out where it is too long, and whether it is whole."""
    text = text.replace("\0", "\\u0000").encode("utf-8", "replace").decode()
    if len(text) <= longest:
        return text, True
    half = longest // 2
    return f"{text[:half]} ... {len(text) - 2 * half:,} characters ... {text[-half:]}", False
