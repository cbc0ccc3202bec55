"""Find a run by any id that somebody may have: its own, or that of a call, an answer, a request or a trace."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from bursar.tracing.queries import Reader
from bursar.words.errors import LedgerError
from bursar.words.rows import RunRow

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

_MOST_NAMED: Final = 5
_SPAN_DIGITS: Final = frozenset("0123456789abcdef")
_TAGS: Final = (
    "env", "feature", "owner", "tenant", "promise", "release", "prompt_version", "user_hash", "session_id", "trace_id",
    "span_id",
)  # fmt: skip
_OWN: Final = "SELECT DISTINCT run, substr(call_id, 1, 26) FROM {table} WHERE call_id >= ? AND call_id < ? LIMIT 6"
_THEIRS: Final = """
SELECT call_id, run, response_id, request_id FROM attempt WHERE call_id < ?1
AND (response_id >= ?2 AND response_id < ?3 OR request_id >= ?2 AND request_id < ?3) ORDER BY call_id DESC LIMIT 1
"""
"""The next older attempt with such an id of the provider's: asked again below each, the ledger is gone through once."""
_LAST: Final = "~"


class Found(NamedTuple):
    """A run, and the operation in it that was looked for; a call outside of any run has one that is no run's."""

    run: RunRow
    op_id: str | None = None


class Finder(Reader):
    """Finds runs in a ledger. The provider's ids have no index: attempts are gone through, the newest first."""

    def find(self, given: str, going_through: Callable[[], AbstractContextManager[object]] = nullcontext) -> Found:
        """The run that an id, or the beginning of one, is of. Raises `LedgerError` for none, and for several.

        `going_through` is entered while attempts are gone through, which takes seconds where there are millions.
        """
        if given == "last" or not given or not given.isascii() or self._begins_run(given):
            return Found(self.run(given))
        for column in ("trace_id", "span_id"):
            if set(given.lower()) <= _SPAN_DIGITS:
                runs = self._runs(f"AND r.{column} >= ? AND r.{column} < ? LIMIT 99", _from(given.lower()))
                if runs:
                    return Found(_outermost(given, runs))
        for table in ("model_call", "tool_call"):
            rows = self._ask(_OWN.format(table=table), _from(given.upper()))
            if rows:
                return self._of_call(given, "calls'", [(run, op_id, op_id) for run, op_id in rows])
        with going_through():
            whose, theirs = self._theirs(given)
        if theirs:
            return self._of_call(given, whose, theirs)
        raise LedgerError(
            f"no run's id begins with {given[:40]!r}, nor does that of a call, a response, a request or an "
            "OpenTelemetry trace; `bursar trace last` shows the newest"
        )

    def lineage(self, run: RunRow) -> dict[str, str]:
        """Whom a run is for, and what it is of; names that have no value are left out."""
        rows = self._ask(
            f"SELECT {', '.join(_TAGS)}, d.extra FROM run r JOIN dimension d ON d.id = r.dimension WHERE r.run_id = ?",
            (run.run_id,),
        )
        if not rows:
            return {}
        *values, extra = rows[0]
        found = {name: value for name, value in zip(_TAGS, values, strict=True) if value is not None}
        return found | {name: str(value) for name, value in orjson.loads(extra or "{}").items()}

    def ancestors(self, run: RunRow) -> list[RunRow]:
        """The runs that this one is nested in, the outermost first."""
        found: list[RunRow] = []
        while run.parent_run_id and run.parent_run_id not in {row.run_id for row in found}:
            above = self._runs("AND r.run_id = ?", (run.parent_run_id,))
            if not above:
                break
            run = above[0]
            found.insert(0, run)
        return found

    def _begins_run(self, given: str) -> bool:
        return bool(self._ask("SELECT 1 FROM run WHERE run_id >= ? AND run_id < ? LIMIT 1", _from(given.upper())))

    def _theirs(self, given: str) -> tuple[str, Sequence[tuple[Any, ...]]]:
        """Runs and operations of answers or requests whose ids begin so; of the newest alone whose id it is."""
        answers: list[tuple[Any, ...]] = []
        requests: list[tuple[Any, ...]] = []
        below = _LAST
        while len({op_id for _, op_id, _ in (*answers, *requests)}) <= _MOST_NAMED:
            rows = self._ask(_THEIRS, (below, *_from(given)))
            if not rows:
                break
            below, run, response_id, request_id = rows[0]
            found = run, below[:26]
            if given in (response_id, request_id):
                answers, requests = [(*found, given)], []
                break
            if str(response_id).startswith(given):
                answers.append((*found, response_id))
            else:
                requests.append((*found, request_id))
        return ("responses'", answers) if answers else ("requests'", requests)

    def _of_call(self, given: str, whose: str, rows: Sequence[tuple[Any, ...]]) -> Found:
        if len({op_id for _, op_id, _ in rows}) > 1:
            exact = [row for row in rows if row[2] == given]
            if not exact or len({op_id for _, op_id, _ in exact}) > 1:
                names = ", ".join(sorted({name for _, _, name in rows})[:_MOST_NAMED])
                raise LedgerError(f"several {whose} ids begin with {given[:40]!r}: {names}")
            rows = exact
        number, op_id, _ = rows[0]
        runs = self._runs("AND r.number = ?", (number,)) if number is not None else []
        return Found(runs[0] if runs else self._alone(op_id), op_id)

    def _alone(self, op_id: str) -> RunRow:
        """What a run would say that had this operation and nothing else."""
        rows = self._ask(
            """SELECT d.workflow, c.user_hash, min(c.ts_us), max(c.ts_us + coalesce(c.latency_us, 0)),
                sum(c.tool_calls), sum(c.input_tokens + c.output_tokens), coalesce(sum(c.cost_nusd), 0),
                sum(c.cost_nusd IS NULL)
            FROM model_call c JOIN dimension d ON d.id = c.dimension WHERE c.call_id >= ? AND c.call_id < ?""",
            _from(op_id),
        )
        workflow, user, since_us, until_us, tools, tokens, nusd, unpriced = rows[0]
        if workflow is None:
            raise LedgerError(f"{op_id} is a tool's call outside of any run: there is nothing around it to show")
        return RunRow("", None, workflow, user, since_us, until_us, "no run", 1, tools, tokens, nusd, unpriced, 0, ())


def _outermost(given: str, runs: Sequence[RunRow]) -> RunRow:
    inside = {row.run_id for row in runs}
    found = [row for row in runs if row.parent_run_id not in inside]
    if len(found) > 1:
        names = ", ".join(row.run_id for row in found[:_MOST_NAMED])
        raise LedgerError(f"several runs are of the traces that begin with {given[:40]!r}: {names}")
    return found[0]


def _from(beginning: str) -> tuple[str, str]:
    return beginning, beginning + "~"
