"""A read-only view of a ledger file. Never writes, works beside writers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from bursar.db import open_ledger
from bursar.schema import MIGRATIONS
from bursar.words.errors import LedgerError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class View:
    """A ledger file, opened for reading, which is brought up to date first where an older version wrote it.

    Raises `LedgerError` where there is none, or none of ours, or an old one that may not be written.
    """

    def __init__(self, path: Path) -> None:
        self._database = open_ledger(path, read_only=True)
        if self._ask("PRAGMA user_version", ())[0][0] < len(MIGRATIONS):
            self._database.close()
            _bring_up(path)
            self._database = open_ledger(path, read_only=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._database.close()

    def _ask(self, sql: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        import apsw

        try:
            return self._database.execute(sql, values)
        except apsw.Error as error:
            raise LedgerError(f"the ledger {self._database.path} cannot be read ({error})") from None


def _bring_up(path: Path) -> None:
    try:
        open_ledger(path).close()
    except LedgerError as error:
        raise LedgerError(
            f"{path} was written by an older version and has to be brought up to date before it can be read: {error}"
        ) from None
