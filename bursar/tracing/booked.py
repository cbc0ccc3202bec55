"""Read what the ledger has of a provider, day by day and model by model, to be held against its bill."""

from __future__ import annotations

from typing import NamedTuple

from bursar.tracing.queries import Reader
from bursar.tracing.tags import AGGREGATE, BY
from bursar.words.clock import first_id
from bursar.words.errors import LedgerError


class Booked(NamedTuple):
    """One day (of UTC) and model, or one value of a tag.

    Unmeasured: charged without a count of the provider, at a bound or an estimate.
    """

    day: str
    model: str
    calls: int
    tokens: int
    nusd: int
    unmeasured_nusd: int
    unpriced_tokens: int


class BookedReader(Reader):
    """Reads what calls of its own the ledger has: what was imported from an export is the bill itself."""

    def booked(self, provider: str, since_us: int, until_us: int) -> list[Booked]:
        """All days and models of a provider in that time."""
        return self._booked(BY["day"], BY["model"], provider, since_us, until_us)

    def booked_by(self, tag: str, provider: str, since_us: int, until_us: int) -> list[Booked]:
        """The same by the values of a tag instead of models, over all days: `day` is empty.

        Calls without it are of ""; a tag that nobody has given is on none. Raises `LedgerError` for what can be none.
        """
        if not tag.isidentifier() or not tag.isascii():
            raise LedgerError(f"{tag[:40]!r} is no name of a tag")
        column = BY.get(tag, f"json_extract(d.extra, '$.{tag}')")
        return self._booked("''", f"coalesce({column}, '')", provider, since_us, until_us)

    def _booked(self, day: str, name: str, provider: str, since_us: int, until_us: int) -> list[Booked]:
        rows = self._ask(
            f"""SELECT {day}, {name}, count(*), total(c.input_tokens + c.output_tokens),
                total(c.cost_nusd),
                total(c.cost_nusd) FILTER (WHERE e.usage_source IN ('estimated', 'stream_partial')),
                total(c.input_tokens + c.output_tokens) FILTER (WHERE c.cost_nusd IS NULL)
            FROM model_call c JOIN dimension d ON d.id = c.dimension JOIN ending e ON e.id = c.ending
            WHERE c.call_id >= ? AND c.call_id < ? AND d.provider = ? AND instr(e.flags, ?) = 0 GROUP BY 1, 2""",
            (first_id(since_us), first_id(until_us), provider, AGGREGATE),
        )
        return [Booked(at, key, *(int(number) for number in numbers)) for at, key, *numbers in rows]
