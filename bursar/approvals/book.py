"""Questions, answers and grants as rows of the ledger: the one place where any of them is decided.

Every step is one transaction that names the state it starts from. So of two answers one is taken, a yes is used once,
and a grant with an amount is never used beyond it, whichever processes are at it and whoever dies.
"""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from bursar.tracing.redact import redact
from bursar.tracing.values import clean
from bursar.words.errors import ConfigError, LedgerError
from bursar.words.money import MAX_AMOUNT, parse_usd, show_usd

if TYPE_CHECKING:
    from collections.abc import Callable

    from bursar.db import Database, Run
    from bursar.words.questions import Question, Reply

LONGEST_ARGUMENTS: Final = 200_000
"""Characters of arguments that are kept while a question is open; longer ones are cut in the middle."""
EACH_FACTOR: Final = 2
"""A yes that lasts covers calls up to so many times the price that was asked about, where no amount is named."""
HOUR_US: Final = 3_600_000_000
_ROW: Final = (
    "id, made_us, until_us, state, kind, name, workflow, run_id, op_id, binding, place, skip, arguments, whole, "
    "likely_nusd, bound_nusd, ceiling_nusd, sure, spent_nusd, left_nusd, rules, why, asking, decided_us, used_us, "
    "by_whom, via, reason, scope, edited, grant_id"
)
_GRANT: Final = (
    "id, approval, made_us, kind, name, scope, run_id, workflow, rules, each_nusd, up_to_nusd, used_nusd, uses, "
    "until_us, by_whom, why, revoked_us, revoked_by"
)


class Row(NamedTuple):
    """A question as the ledger has it; see the schema."""

    id: str
    made_us: int
    until_us: int | None
    state: str
    kind: str
    name: str
    workflow: str
    run_id: str | None
    op_id: str
    binding: str
    place: str | None
    skip: int
    arguments: str | None
    whole: int
    likely_nusd: int | None
    bound_nusd: int | None
    ceiling_nusd: int | None
    sure: str | None
    spent_nusd: int | None
    left_nusd: int | None
    rules: str
    why: str
    asking: str | None
    decided_us: int | None
    used_us: int | None
    by_whom: str | None
    via: str | None
    reason: str | None
    scope: str | None
    edited: str | None
    grant_id: str | None


class GrantRow(NamedTuple):
    """A yes that lasts, as the ledger has it; see the schema."""

    id: str
    approval: str
    made_us: int
    kind: str
    name: str
    scope: str
    run_id: str | None
    workflow: str
    rules: str
    each_nusd: int | None
    up_to_nusd: int | None
    used_nusd: int
    uses: int
    until_us: int | None
    by_whom: str | None
    why: str | None
    revoked_us: int | None
    revoked_by: str | None


class Book:
    """The approvals of one ledger. `database` gives the open file, `now_us` the time in microseconds since the epoch.

    Raises `LedgerError` and apsw's errors where the file cannot be used.
    """

    def __init__(self, database: Callable[[], Database], now_us: Callable[[], int]) -> None:
        self._database, self.now_us = database, now_us

    def grant_for(self, question: Question) -> GrantRow | None:
        """Use an earlier yes that covers a question: its amount is taken in the same step."""
        now_us, bound = self.now_us(), question.bound_nusd

        def use(run: Run) -> GrantRow | None:
            found = run(
                f'SELECT {_GRANT} FROM "grant" WHERE kind = ? AND name = ? AND revoked_us IS NULL '
                "AND (until_us IS NULL OR until_us > ?) AND ((scope = 'run' AND run_id = ?) OR "
                "(scope = 'tool' AND workflow = ?)) AND ((each_nusd IS NULL AND ? IS NULL) OR each_nusd >= ?) "
                "AND (up_to_nusd IS NULL OR used_nusd + ? <= up_to_nusd) ORDER BY made_us",
                (question.kind, question.name, now_us, question.run_id, question.workflow, bound, bound, bound),
            )
            for values in found:
                row = GrantRow(*values)
                if set(question.rules) <= set(json.loads(row.rules)):
                    run(
                        'UPDATE "grant" SET used_nusd = used_nusd + ?, uses = uses + 1 WHERE id = ?',
                        (bound or 0, row.id),
                    )
                    return row
            return None

        return self._database().transact(use)

    def open(
        self,
        question: Question,
        *,
        until_us: int | None,
        asking: str,
        user_hash: str | None,
        place: str | None = None,
    ) -> Row:
        """Write a question down."""
        number = secrets.token_hex(16)
        text, whole = fitted(redact(question.arguments))
        values = (
            number, self.now_us(), until_us, "asked", question.kind, clean(question.name, 200),
            clean(question.workflow, 200), question.run_id, question.op_id, question.binding, place, 0, text,
            int(question.whole and whole), question.likely_nusd, question.bound_nusd, question.ceiling_nusd,
            question.sure, question.spent_nusd, question.left_nusd,
            orjson.dumps([clean(redact(rule), 400) for rule in question.rules]).decode(),
            clean(redact(question.why), 600), asking, None, None, None, None, None, None, None, None, user_hash,
        )  # fmt: skip
        self._database().transact(
            lambda run: run(f"INSERT INTO approval ({_ROW}, user_hash) VALUES ({', '.join('?' * 32)})", values)
        )
        return Row(*values[:-1])

    def row(self, number: str) -> Row | None:
        """A question by its id."""
        found = self._database().execute(f"SELECT {_ROW} FROM approval WHERE id = ?", (number,))
        return Row(*found[0]) if found else None

    def like(self, beginning: str) -> list[Row]:
        """The questions whose ids begin so."""
        found = self._database().execute(
            f"SELECT {_ROW} FROM approval WHERE id >= ? AND id < ?", (beginning, beginning + "~")
        )
        return [Row(*values) for values in found]

    def at(self, place: str) -> Row | None:
        """The newest question that was asked at a place of a graph."""
        found = self._database().execute(
            f"SELECT {_ROW} FROM approval WHERE place = ? ORDER BY made_us DESC, id DESC LIMIT 1", (place,)
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

        Raises `LedgerError` where there is no such question, `ConfigError` for an amount that this call would not fit.
        """
        now_us = self.now_us()
        edited = None if reply.arguments is None else orjson.dumps(dict(reply.arguments)).decode()

        def answer(run: Run) -> tuple[Row, bool]:
            found = run(f"SELECT {_ROW} FROM approval WHERE id = ?", (number,))
            if not found:
                raise LedgerError(
                    f"there is no question {number[:40]!r}; `bursar approvals list` shows those there are"
                )
            row = Row(*found[0])
            if row.state != "asked" or (row.until_us is not None and row.until_us < now_us):
                return row, False
            grant_id = None
            if reply.yes and reply.scope != "once":
                grant_id = _grant(run, row, reply, by, now_us)
            run(
                "UPDATE approval SET state = ?, decided_us = ?, by_whom = ?, via = ?, reason = ?, scope = ?, "
                "edited = ?, grant_id = ?, arguments = NULL WHERE id = ?",
                (
                    "approved" if reply.yes else "denied",
                    now_us,
                    None if by is None else clean(by, 100),
                    clean(via, 100),
                    None if reply.reason is None else clean(redact(reply.reason), 400),
                    reply.scope,
                    edited,
                    grant_id,
                    number,
                ),
            )
            return Row(*run(f"SELECT {_ROW} FROM approval WHERE id = ?", (number,))[0]), True

        return self._database().transact(answer)

    def end(self, number: str, state: str, reason: str | None = None) -> Row:
        """End a question that nobody has answered ("timeout", "withdrawn"); the row as it then stands."""
        now_us = self.now_us()

        def ended(run: Run) -> Row:
            run(
                "UPDATE approval SET state = ?, decided_us = ?, reason = ?, arguments = NULL "
                "WHERE id = ? AND state = 'asked'",
                (state, now_us, reason, number),
            )
            return Row(*run(f"SELECT {_ROW} FROM approval WHERE id = ?", (number,))[0])

        return self._database().transact(ended)

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
        """Questions that wait for an answer, the oldest first."""
        found = self._database().execute(
            f"SELECT {_ROW} FROM approval WHERE state = 'asked' AND (until_us IS NULL OR until_us >= ?) "
            "ORDER BY made_us",
            (self.now_us(),),
        )
        return [Row(*values) for values in found]

    def latest(self, since_us: int, most: int) -> list[Row]:
        """All questions since a moment, the newest first."""
        found = self._database().execute(
            f"SELECT {_ROW} FROM approval WHERE made_us >= ? ORDER BY made_us DESC LIMIT ?", (since_us, most)
        )
        return [Row(*values) for values in found]

    def asked_within_an_hour(self, rules: str) -> list[tuple[str, int | None]]:
        """State and likely cost of what the same gates asked about within the last hour."""
        found = self._database().execute(
            "SELECT state, likely_nusd FROM approval WHERE made_us >= ? AND rules = ?", (self.now_us() - HOUR_US, rules)
        )
        return [(state, nusd) for state, nusd in found]

    def grants(self) -> list[GrantRow]:
        """Every yes that lasts, the newest first, revoked ones too."""
        found = self._database().execute(f'SELECT {_GRANT} FROM "grant" ORDER BY made_us DESC')
        return [GrantRow(*values) for values in found]

    def revoke(self, number: str, by: str) -> bool:
        """Take a lasting yes back; False where there is none, or it is revoked already."""
        now_us = self.now_us()
        found = self._database().transact(
            lambda run: run(
                'UPDATE "grant" SET revoked_us = ?, revoked_by = ? WHERE id = ? AND revoked_us IS NULL RETURNING id',
                (now_us, clean(by, 100), number),
            )
        )
        return bool(found)


def fitted(text: str, longest: int = LONGEST_ARGUMENTS) -> tuple[str, bool]:
    """A text with its middle cut out where it is too long, and whether it is whole."""
    text = text.replace("\0", "\\u0000").encode("utf-8", "replace").decode()
    if len(text) <= longest:
        return text, True
    half = longest // 2
    return f"{text[:half]} ... {len(text) - 2 * half:,} characters ... {text[-half:]}", False


def _grant(run: Run, row: Row, reply: Reply, by: str | None, now_us: int) -> str:
    number = secrets.token_hex(16)
    up_to = None if reply.up_to_usd is None else parse_usd(reply.up_to_usd, "up_to_usd")
    each: Any = None if row.bound_nusd is None else min(MAX_AMOUNT, EACH_FACTOR * row.bound_nusd)
    if up_to is not None and row.bound_nusd is not None:
        each = up_to
        if up_to < row.bound_nusd:
            raise ConfigError(
                f"up_to_usd={str(reply.up_to_usd)!r} is less than this call can cost: {show_usd(row.bound_nusd)}"
            )
    # This call is the first that it covers.
    values = (
        number, row.id, now_us, row.kind, row.name, reply.scope, row.run_id, row.workflow, row.rules, each, up_to,
        row.bound_nusd or 0, 1, reply.until_us(now_us), by, reply.reason, None, None,
    )  # fmt: skip
    run(f'INSERT INTO "grant" ({_GRANT}) VALUES ({", ".join("?" * 18)})', values)
    return number
