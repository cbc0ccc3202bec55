"""Read who owns which workflow."""

from __future__ import annotations

from bursar.tracing.queries import Reader


class OwnerReader(Reader):
    """Reads the owners that calls named: from the tags alone, of which there are few, whatever the number of calls."""

    def owners(self) -> dict[str, str]:
        """The owner that was named last of each workflow that has any."""
        rows = self._ask("SELECT workflow, owner FROM dimension WHERE owner IS NOT NULL ORDER BY id", ())
        return dict(rows)
