"""Every yes that lasts: made with an answer, used with each call that it covers, listed and revoked."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Any, Final

from bursar.approvals.rows import GRANT, GrantRow
from bursar.tracing.values import clean
from bursar.words.errors import ConfigError
from bursar.words.money import MAX_AMOUNT, parse_usd, show_usd

if TYPE_CHECKING:
    from collections.abc import Callable

    from bursar.approvals.rows import Row
    from bursar.db import Database, Run
    from bursar.words.questions import Question, Reply

EACH_FACTOR: Final = 2
"""A yes that lasts covers calls up to so many times the price that was asked about, where no amount is named."""


class Grants:
    """The grants of one ledger. `database` gives the open file, `now_us` the time in microseconds since the epoch."""

    def __init__(self, database: Callable[[], Database], now_us: Callable[[], int]) -> None:
        self._database, self.now_us = database, now_us

    def grant_for(self, question: Question) -> GrantRow | None:
        """Use an earlier yes that covers a question: its amount is taken in the same step."""
        now_us, bound = self.now_us(), question.bound_nusd

        def use(run: Run) -> GrantRow | None:
            found = run(
                f'SELECT {GRANT} FROM "grant" WHERE kind = ? AND name = ? AND revoked_us IS NULL '
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

    def grants(self) -> list[GrantRow]:
        """Every yes that lasts, the newest first, revoked ones too."""
        found = self._database().execute(f'SELECT {GRANT} FROM "grant" ORDER BY made_us DESC')
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


def new_grant(run: Run, row: Row, reply: Reply, by: str | None, now_us: int) -> str:
    """Write a yes that lasts down, with its first use; its id. Raises `ConfigError` for an amount that is too small."""
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
    run(f'INSERT INTO "grant" ({GRANT}) VALUES ({", ".join("?" * 18)})', values)
    return number
