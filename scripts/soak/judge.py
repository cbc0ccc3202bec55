"""What must hold of the books when all is over.

For each loop of an agent (a mark, with its runs): the ledger is never below the bill, and equal to it where all of it
was measured; the bill is never beyond the limit by more than the excess of rows that are called an overrun; with
`bound="hard"` there is none; nothing is held. For each answer: a measured row is what the provider charged for it. For
each shared limit: as for a run, with what dead processes left. For what nobody saw the end of, its worker being killed:
rows and presumed holds together are no less than the bill. What answers to gates must be like is in `asks.py`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any, Final

from bursar.words.money import show_usd
from scripts.soak.asks import figures, judge_asks
from scripts.soak.books import Bill, Kept, Row, answer_of
from scripts.soak.diary import KILLED
from scripts.soak.overruns import Overrun, explain, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scripts.soak.asks import Asks
    from scripts.soak.diary import Ended, Made


_PRACTICAL: Final = 0.03
"""Of what was charged for calls that nobody has counted: ten times what counted inputs were seen above their bound."""


class Judgement:
    """The three books, and what is wrong with them."""

    def __init__(
        self,
        ended: Sequence[Ended],
        bill: Bill,
        kept: Kept,
        *,
        user_limit_nusd: int,
        asks: Asks | None = None,
        made: Sequence[Made] = (),
    ) -> None:
        self.asks, self.made = asks, made
        self._raised = {} if asks is None else asks.raised()
        self.bill, self.kept, self.ended = bill, kept, ended
        self.faults: list[str] = []
        self.exact = self.beyond = self._unseen = 0
        self.overruns: list[Overrun] = []
        self.shorts: list[float] = []
        marks: dict[str, list[Ended]] = defaultdict(list)
        for each in ended:
            marks[each.mark].append(each)
        for runs in marks.values():
            self._loop(runs)
        self._answers()
        self._lost(marks)
        self._shared(marks, user_limit_nusd)
        if asks is not None:
            # Who was killed could not take his question back.
            self.faults += judge_asks(asks, made, {each.run_id for each in ended if each.stopped != KILLED})

    def _loop(self, runs: list[Ended]) -> None:
        first = runs[0]
        ids = {run.run_id for run in runs}
        rows = [row for run_id in ids for row in self.kept.rows.get(run_id, ())]
        billed, kept = self.bill.by_mark[first.mark], sum(row.nusd for row in rows)
        shown = f"{first.feature} {first.run_id}"
        over = [row for row in rows if "overrun" in row.flags.split()]
        self.overruns += [explain(row, self.bill.attached.get(answer_of(row), "")) for row in over]
        killed = any(run.stopped == KILLED for run in runs)
        if killed:
            # The call that its process was killed in is no row.
            self._unseen += max(0, billed - kept)
        elif kept < billed:
            self._short(shown, rows, billed - kept, billed)
        if all(row.measured for row in rows) and not killed:
            self.exact += 1
            if kept != billed:
                self.faults.append(f"{shown} is measured at {kept}, billed at {billed}")
        limits = [run.limit_nusd for run in runs]
        if None not in limits:
            # What an answer has added counts as if it had been there from the beginning.
            limit = sum(limit or 0 for limit in limits) + sum(self._raised.get(run_id, 0) for run_id in ids)
            excess = sum(row.excess_nusd for row in over)
            self.beyond += billed > limit
            if billed > limit + excess:
                self.faults.append(f"{shown} was billed {billed} of {limit}, and overruns explain {excess}")
            if first.hard and (billed > limit or over):
                self.faults.append(f"{shown} is hard, and was billed {billed} of {limit} with {len(over)} overruns")
        held = sum(run.held_nusd for run in runs)
        if held:
            self.faults.append(f"{shown} still holds {held}")

    def _short(self, shown: str, rows: list[Row], short: int, billed: int) -> None:
        """A run is below its bill: an input that nobody has counted may be a little above its practical bound."""
        doubt = [row for row in rows if not row.measured]
        uncounted = sum(row.nusd for row in doubt if row.bound == "practical")
        if short <= _PRACTICAL * uncounted:
            self.shorts.append(short / uncounted)
            return
        said = ", ".join(f"{row.status}/{row.source}/{row.bound} {row.input_tokens}+{row.output_tokens}={row.nusd}"
                         for row in doubt)  # fmt: skip
        self.faults.append(f"{shown} is in the ledger at {billed - short}, billed at {billed}; not measured: {said}")

    def _answers(self) -> None:
        for row in self.kept.all_rows:
            charge = self.bill.answers.get(answer_of(row))
            if charge is not None and row.measured and row.nusd != charge.nusd:
                self.faults.append(f"{row.call_id} is measured at {row.nusd}, billed at {charge.nusd}")

    def _lost(self, marks: dict[str, list[Ended]]) -> None:
        seen = {run.run_id for runs in marks.values() for run in runs}
        rows = [row for run_id, rows in self.kept.rows.items() if run_id not in seen for row in rows]
        billed = sum(nusd for mark, nusd in self.bill.by_mark.items() if mark not in marks)
        self.lost_billed = billed + self._unseen
        self.lost = frozenset(mark for mark in self.bill.by_mark if mark not in marks)
        self.lost_kept = sum(row.nusd for row in rows) + self.kept.presumed_nusd
        if self.lost_kept < self.lost_billed:
            self.faults.append(f"what was killed is in the books at {self.lost_kept}, billed at {self.lost_billed}")

    def _shared(self, marks: dict[str, list[Ended]], user_limit_nusd: int) -> None:
        users = {run.run_id: run.user for runs in marks.values() for run in runs}
        excess: Counter[str] = Counter()
        for run_id, rows in self.kept.rows.items():
            excess[users.get(run_id, "")] += sum(row.excess_nusd for row in rows)
        spare = excess.pop("", 0)
        for user, billed in self.bill.by_user.items():
            if billed > user_limit_nusd + excess[user] + spare:
                self.faults.append(f"user {user} was billed {billed} of {user_limit_nusd}")
        for kind, name, limits, _, held in self.kept.accounts:
            if held:
                self.faults.append(f"{kind}/{name} {limits} still holds {held}")
        self.faults += [f"{each.call_id} is still held at {each.held.nusd}" for each in self.kept.held]

    def figures(self) -> dict[str, Any]:
        """What to show."""
        rows = self.kept.all_rows
        kept = sum(row.nusd for row in rows) + self.kept.presumed_nusd
        return {
            "runs": len({each.run_id for each in self.ended}),
            "of them": dict(sorted(Counter(each.feature for each in self.ended).items())),
            "ended by": dict(Counter(each.stopped or "finished" for each in self.ended).most_common()),
            "runs wholly measured": self.exact,
            "runs beyond their limit": self.beyond,
            "overruns": table(self.overruns, len(rows)) or "none",
            "runs short by an input that was not counted": [f"{short:.1%}" for short in sorted(self.shorts)],
            "billed calls": self.bill.calls,
            "rows by status": _counted(rows),
            "rows by bound": dict(Counter(row.bound or "none" for row in rows).most_common()),
            "billed usd": show_usd(self.bill.nusd),
            "ledger over bill": round(kept / max(1, self.bill.nusd), 4),
            "killed, billed and kept": f"{show_usd(self.lost_billed)}, {show_usd(self.lost_kept)}",
            "kept contents": self.kept.contents,
            **({} if self.asks is None else figures(self.asks, self.made)),
        }


def _counted(rows: list[Row]) -> dict[str, int]:
    return dict(Counter(row.status for row in rows).most_common())
