"""Read what every attempt of a period used, to be priced anew."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from bursar.tracing.queries import Reader
from bursar.tracing.tags import BY
from bursar.words.clock import first_id
from bursar.words.events import Usage
from bursar.words.rows import Used

if TYPE_CHECKING:
    from collections.abc import Iterator

_AT_ONCE: Final = 20_000
_USAGE: Final = ", ".join(f"coalesce(c.{name}, 0)" for name in Usage._fields)


class UsedReader(Reader):
    """Reads attempts in the order of their time, some thousands at once: a week may have millions."""

    def used(self, since_us: int, workflow: str | None) -> Iterator[Used]:
        """All attempts since then that used anything, of one workflow or of all."""
        last = first_id(since_us)
        values: tuple[Any, ...] = () if workflow is None else (workflow,)
        condition = "" if workflow is None else "AND d.workflow = ?"
        while True:
            rows = self._ask(
                f"""SELECT c.call_id, d.workflow, d.provider, {BY["model"]}, coalesce(d.tier_served, d.tier_requested),
                    d.speed, d.region, d.promise, coalesce(c.requests, 1), c.cost_nusd, {_USAGE}
                FROM model_call c JOIN dimension d ON d.id = c.dimension
                WHERE c.call_id > ? AND c.input_tokens + c.output_tokens > 0 {condition}
                ORDER BY c.call_id LIMIT {_AT_ONCE}""",
                (last, *values),
            )
            for row in rows:
                yield Used._make((*row[1:10], Usage._make(row[10:])))
            if len(rows) < _AT_ONCE:
                return
            last = rows[-1][0]
