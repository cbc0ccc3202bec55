"""What must hold of questions and answers when all is over.

Whatever a gate is for was made after a yes: each tool call, known by what its own function wrote down, has an answer to
just its arguments or a lasting yes; each model call of a gated feature has one beside it. A question is decided once:
one state, one answer beside the call, one raise of the limit where the answer says so. None stays open but those of
graphs that nobody has resumed, and those of the killed have ended.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from bursar.approvals.book import Book
from bursar.approvals.desk import ApprovalDesk
from bursar.approvals.rows import ROW, Row
from bursar.tracing.ledger import Ledger
from bursar.tracing.users import FORGOTTEN
from bursar.words.canonical import canonical
from bursar.words.clock import CLOCK

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from scripts.soak.diary import Made

GATED: Final = "gated"
"""The beginning of the names of features whose every model call is asked about."""
_OF_QUESTION: Final = re.compile(r"\b([0-9a-f]{8}), after ")
_ENDS: Final = ("approved", "deny", "timeout")


class Said(NamedTuple):
    """A verdict of a gate beside a call."""

    op_id: str
    run_id: str | None
    action: str
    reason: str
    nusd: int | None

    @property
    def question(self) -> str | None:
        """The beginning of the id of the question that it is about; None of a grant."""
        found = _OF_QUESTION.search(self.reason)
        return found[1] if found else None


class Asks:
    """Questions, verdicts and gated calls of one ledger."""

    def __init__(self, path: Path) -> None:
        ledger = Ledger(path)
        self._desk = ApprovalDesk(ledger)
        database = ledger.database()
        # What dead processes have asked ends when somebody looks.
        Book(lambda: database, CLOCK.wall_us).open_ones()
        self.rows = [Row(*found) for found in database.execute(f"SELECT {ROW} FROM approval")]
        self.said = [
            Said(*found)
            for found in database.execute(
                "SELECT op_id, run_id, action, reason, nusd FROM verdict WHERE guard = 'gate' AND acted ORDER BY id"
            )
        ]
        self.ended = {run_id for (run_id,) in database.execute("SELECT run_id FROM run WHERE ended_us IS NOT NULL")}
        self.tools = database.execute("SELECT call_id, tool_name, status FROM tool_call WHERE tool_name = 'wire'")
        self.models = database.execute(
            "SELECT call_id, d.feature FROM model_call c JOIN dimension d ON d.id = c.dimension WHERE d.feature LIKE ?",
            (GATED + "%",),
        )
        # Whoever forgets a user forgets what was put in place of arguments as well, but not that something was.
        [(self.edits_forgotten,)] = database.execute(
            "SELECT count(*) FROM approval a JOIN tool_call t ON t.call_id = a.op_id || '/0' WHERE a.user_hash = ? "
            "AND a.state = 'used' AND a.edited IS NULL AND ' ' || t.flags || ' ' LIKE '% edited %'",
            (FORGOTTEN,),
        )
        ledger.close()

    def binding(self, name: str, arguments: Any) -> str:
        """What a yes to this call is bound to."""
        return self._desk.bind("tool", name, canonical(arguments).data)

    def raised(self) -> dict[str, int]:
        """By how much each run's limits were raised."""
        sums: Counter[str] = Counter()
        for said in self.said:
            if said.action == "raise":
                sums[said.run_id or ""] += said.nusd or 0
        return sums


def judge_asks(asks: Asks, made: Iterable[Made], ended: set[str]) -> list[str]:
    """What is wrong; `made` is what gated tools wrote down, `ended` the runs whose end was seen."""
    return [*_unapproved(asks, list(made)), *_decided(asks, ended), *_raises(asks)]


def _unapproved(asks: Asks, made: list[Made]) -> list[str]:
    yes: Counter[str] = Counter()
    for row in asks.rows:
        if row.state == "used" and row.kind == "tool":
            yes[asks.binding(row.name, json.loads(row.edited)) if row.edited else row.binding] += 1
    granted = sum(said.action == "approved" and said.reason.startswith("grant") for said in asks.said)
    faults, without = [], 0
    for each, times in Counter((one.name, one.arguments) for one in made).items():
        spare = times - yes[asks.binding(each[0], json.loads(each[1]))]
        without += max(0, spare)
    if without > granted + asks.edits_forgotten:
        faults.append(
            f"{without} calls of tools were made without a yes to them, {granted} are covered by grants and "
            f"{asks.edits_forgotten} by edits that are forgotten"
        )
    approved = {said.op_id for said in asks.said if said.action == "approved"}
    for call_id, name, status in asks.tools:
        if call_id.partition("/")[0] not in approved:
            faults.append(f"tool call {call_id} of {name} ({status}) has no yes beside it")
    for call_id, feature in asks.models:
        if call_id.partition("/")[0] not in approved:
            faults.append(f"model call {call_id} of {feature} has no yes beside it")
    return faults


def _decided(asks: Asks, ended: set[str]) -> list[str]:
    ends: dict[str, list[Said]] = defaultdict(list)
    asked = Counter(said.op_id for said in asks.said if said.action == "ask")
    for said in asks.said:
        if said.action in _ENDS and said.question is not None:
            ends[said.question].append(said)
    faults = []
    for row in asks.rows:
        found = ends[row.id[:8]]
        wrong = [*_ended(row, [said.action for said in found], seen=row.run_id in ended), *_kept(row)]
        if row.place is None and not asked[row.op_id]:
            wrong.append("has no asking beside its call")
        faults += [f"question {row.id} ({row.state}, asked by {row.asking}) {what}" for what in wrong]
    return faults


def _ended(row: Row, actions: list[str], *, seen: bool) -> list[str]:
    """Whether it was decided once; `seen`: the run that asked was seen to end."""
    want = {"used": "approved", "denied": "deny", "timeout": "timeout"}.get(row.state)
    # A graph that is resumed twice is told so the second time.
    others = [action for action in actions if action != want and not (row.place and action == "deny")]
    wrong = []
    if others or actions.count("approved") > 1:
        wrong.append(f"was decided as {actions}")
    if seen and row.place is None:
        if row.state in ("asked", "approved"):
            wrong.append("was left open by a run that ended")
        # A no may come to somebody who has been cancelled meanwhile; a yes is withdrawn then.
        if row.state == "used" and not actions:
            wrong.append("has no answer beside its call")
    return wrong


def _kept(row: Row) -> list[str]:
    wrong = []
    if row.state == "asked" and row.asking != "interrupt":
        wrong.append("is still open")
    if row.state == "used" and row.by_whom is None:
        wrong.append("was approved by nobody")
    if row.arguments is not None and row.state != "asked":
        wrong.append("has kept its arguments")
    return wrong


def _raises(asks: Asks) -> list[str]:
    rows = {row.id[:8]: row for row in asks.rows}
    faults = []
    raises = Counter(said.question for said in asks.said if said.action == "raise")
    for said in asks.said:
        if said.action != "raise":
            continue
        row = rows.get(said.question or "")
        if row is None or row.state != "used" or row.raise_nusd != said.nusd:
            faults.append(f"a limit was raised by {said.nusd} beside {said.op_id}, which no answer says: {said.reason}")
    faults += [f"question {question} has raised {times} limits" for question, times in raises.items() if times > 1]
    for said in asks.said:
        row = rows.get(said.question or "")
        if said.action != "approved" or row is None or row.raise_nusd is None or said.run_id not in asks.ended:
            # Who was killed after the yes raised nothing any more.
            continue
        if not raises[row.id[:8]]:
            faults.append(f"question {row.id} was to raise a limit by {row.raise_nusd}, and that did not happen")
    return faults


def figures(asks: Asks, made: Iterable[Made]) -> dict[str, Any]:
    """What to show."""
    return {
        "questions by state": dict(Counter(row.state for row in asks.rows).most_common()),
        "questions by approver": dict(Counter(row.asking or "" for row in asks.rows).most_common()),
        "answers by": dict(Counter(re.sub(r"\d+", "", row.by_whom or "nobody") for row in asks.rows).most_common()),
        "edited and made": sum(row.edited is not None and row.state == "used" for row in asks.rows),
        "edits forgotten": asks.edits_forgotten,
        "limits raised": sum(said.action == "raise" for said in asks.said),
        "passed by a grant": sum(said.action == "approved" and said.question is None for said in asks.said),
        "gated calls made": {"tools": len(list(made)), "models": len(asks.models)},
    }
