"""Read what context windows have cut."""

from __future__ import annotations

from statistics import median
from typing import NamedTuple

from bursar.tracing.queries import Reader


class Cuts(NamedTuple):
    """Cuts of a period: how many, tokens that each took out of its request together, what writing the rest anew costs.

    `pays_after` is the median of the steps after which a cut has paid for itself, None where none of them is known to.
    """

    cuts: int
    tokens: int
    nusd: int
    pays_after: int | None


class CutReader(Reader):
    """Reads the cuts of a ledger."""

    def cuts(self, since_us: int, until_us: int | None) -> Cuts:
        """The cuts that were made from one moment to another, which is not included."""
        rows = self._ask(
            """SELECT tokens, nusd, pays_after FROM verdict
            WHERE guard = 'window' AND action = 'trim' AND acted AND ts_us >= ? AND ts_us < ?""",
            (since_us, 2**62 if until_us is None else until_us),
        )
        steps = [row[2] for row in rows if row[2] is not None]
        tokens, nusd = (sum(row[n] or 0 for row in rows) for n in (0, 1))
        return Cuts(len(rows), tokens, nusd, round(median(steps)) if steps else None)
