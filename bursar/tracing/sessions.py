"""Read the sessions of a ledger, turn by turn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from bursar.tracing.queries import Reader
from bursar.words.clock import first_id
from bursar.words.errors import LedgerError
from bursar.words.rows import Turn

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_AGENT: Final = "coalesce(json_extract(d.extra, '$.agent'), '')"
_TURNS: Final = f"""
    SELECT c.session_id, {_AGENT}, d.workflow, c.ts_us, c.input_tokens, c.cache_read_tokens, c.output_tokens,
        coalesce(c.cost_input_nusd + c.cost_cache_read_nusd + c.cost_cache_write_nusd, 0), c.cost_nusd
    FROM model_call c JOIN dimension d ON d.id = c.dimension JOIN ending e ON e.id = c.ending
    WHERE c.call_id >= ? AND c.session_id IS NOT NULL AND e.status = 'ok' AND c.input_tokens > 0
"""


class Session(NamedTuple):
    """One conversation: the turns of the agent that leads it, and what the others in it did."""

    name: str
    workflow: str
    turns: tuple[Turn, ...]
    others: int
    others_nusd: int


class SessionReader(Reader):
    """Reads sessions: calls that name one (`session=`, a thread of LangChain, a transcript), by their ids."""

    def sessions(self, since_us: int) -> list[Session]:
        """All that had a turn since then, those that had the latest one first; turns before it are not read."""
        rows = self._ask(f"{_TURNS} ORDER BY c.session_id, c.call_id", (first_id(since_us),))
        found: dict[str, list[tuple[Any, ...]]] = {}
        for name, *row in rows:
            found.setdefault(name, []).append(tuple(row))
        sessions = [_session(name, rows) for name, rows in found.items()]
        return sorted(sessions, key=lambda session: -session.turns[-1].ts_us)

    def session(self, prefix: str) -> Session:
        """The session whose id begins so, all of it. Raises `LedgerError` for none, several, and one without a turn."""
        names = self._ask(
            "SELECT DISTINCT session_id FROM model_call WHERE substr(session_id, 1, ?) = ? ORDER BY 1 LIMIT 6",
            (len(prefix), prefix),
        )
        exact = [name for (name,) in names if name == prefix] or [name for (name,) in names]
        if len(exact) > 1:
            raise LedgerError(f"several sessions begin with {prefix[:40]!r}: {', '.join(exact[:5])}")
        if not exact:
            raise LedgerError(f"no session's id begins with {prefix[:40]!r}; `bursar sessions --since 30d` lists them")
        rows = self._ask(f"{_TURNS} AND c.session_id = ? ORDER BY c.call_id", ("", exact[0]))
        if not rows:
            raise LedgerError(
                f"no call of session {exact[0][:40]!r} was answered, so it has no turn to show; "
                "`bursar report --by session` says what its calls have cost"
            )
        return _session(exact[0], [row[1:] for row in rows])


def _session(name: str, rows: Sequence[tuple[Any, ...]]) -> Session:
    agents = [agent for agent, *_ in rows]
    # Whoever speaks without a name leads, else the one who speaks most.
    lead = "" if "" in agents else max(set(agents), key=lambda agent: (agents.count(agent), agent))
    others = [row for row in rows if row[0] != lead]
    turns = tuple(Turn._make(row[2:]) for row in rows if row[0] == lead)
    workflow = next(row[1] for row in rows if row[0] == lead)
    return Session(name, workflow, turns, len(others), sum(row[-1] or 0 for row in others))
