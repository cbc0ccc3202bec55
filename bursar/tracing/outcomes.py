"""Read what runs brought about."""

from __future__ import annotations

from typing import Final

from bursar.tracing.queries import Reader
from bursar.tracing.tags import BY, NONE, TIMES
from bursar.words.clock import first_id

TAGS: Final = ("workflow", "feature", "env", "owner", "tenant", "release", "prompt_version", *TIMES)
"""By these an outcome can be told apart, as the run was that it came of: it has no model and no tier."""


class OutcomeReader(Reader):
    """Reads the outcomes of a ledger."""

    def outcomes(self, by: str, since_us: int = 0, until_us: int | None = None) -> dict[str, dict[str, int]]:
        """How many of each name came of each value of a tag, the most first; nothing for a tag that is not in `TAGS`.

        They are of the time at which they were reported.
        """
        if by not in TAGS:
            return {}
        found: dict[str, dict[str, int]] = {}
        rows = self._ask(
            f"""SELECT coalesce({BY[by]}, ?), c.name, sum(c.count) AS n FROM outcome c
            JOIN dimension d ON d.id = c.dimension WHERE c.outcome_id >= ? AND c.outcome_id < ?
            GROUP BY 1, 2 ORDER BY n DESC, 2""",
            (NONE, first_id(since_us), "~" if until_us is None else first_id(until_us)),
        )
        for key, name, count in rows:
            found.setdefault(key, {})[name] = count
        return found

    def of_run(self, run_id: str) -> dict[str, int]:
        """How many of each name a run brought about, in the order in which it first did."""
        rows = self._ask(
            """SELECT c.name, sum(c.count) FROM outcome c JOIN run r ON r.number = c.run WHERE r.run_id = ?
            GROUP BY c.name ORDER BY min(c.outcome_id)""",
            (run_id,),
        )
        return dict(rows)
