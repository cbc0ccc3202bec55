"""Threads of LangGraph that outlive their process: one that is killed is gone on with by whoever comes next.

Each thread that is under way has a file, with its process and the runs that it had. Who takes a thread over moves its
file away first, so that nobody else does.
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from langchain.agents import create_agent
from langchain_core.messages import AIMessage
from langgraph.checkpoint.sqlite import SqliteSaver

from bursar import Budget
from bursar.callbacks import BursarMiddleware
from scripts.soak.diary import KILLED
from scripts.soak.loops import Loops, look_up
from scripts.soak.marks import Mark
from scripts.soak.outcomes import Outcomes

if TYPE_CHECKING:
    from pathlib import Path

_LIMIT: Final = Budget(usd="0.02")


class Left(NamedTuple):
    """A thread: its mark, the process that has it (0: none), and its last run where that has not told its end."""

    mark: tuple[str, ...]
    process: int
    run_id: str | None


class Threads(Loops):
    """The threads of one process."""

    def returned(self) -> None:
        """An agent under a checkpointer, from where its process was killed or its model has failed, to its end."""
        taken = self._take()
        mark = self.mark() if taken is None else Mark(*taken.mark)
        config: Any = {"configurable": {"thread_id": mark.name}}
        guarded = [BursarMiddleware(on_stop="raise")] if self.dice.random() < 0.5 else []
        model = self.model(wrapped=self.dice.random() < 0.5)
        with SqliteSaver.from_conn_string(self.checkpoints) as saver:
            agent: Any = create_agent(model, [look_up], middleware=guarded, checkpointer=saver)
            state: Any = None
            with self.run("returned", _LIMIT, mark=mark) as (run, _):
                self._keep(Left(tuple(mark), os.getpid(), run.id))
                begun = bool(agent.get_state(config).next)
                state = agent.invoke(None if begun else self.ask(mark), config)
            if state is None:
                # Failed: somebody may go on with it.
                self._keep(Left(tuple(mark), 0, None))
                return
        answers = [each.response_metadata["id"] for each in state["messages"] if isinstance(each, AIMessage)]
        Outcomes(self.house.place).answered(mark.name, answers)
        self._file(mark.name).unlink()

    def _take(self) -> Left | None:
        """A thread that nobody has, now and then."""
        for path in self.house.place.glob("*.thread"):
            with contextlib.suppress(OSError, ValueError):
                left = Left(*json.loads(path.read_text()))
                if left.process and _lives(left.process):
                    continue
                path.rename(path.with_suffix(f".{os.getpid()}"))
                if left.run_id is not None:
                    limit_nusd = _LIMIT.limits()["usd"]
                    self.house.diary.note(Mark(*left.mark), "returned", left.run_id, limit_nusd, 0, KILLED)
                return left
        return None

    def _keep(self, left: Left) -> None:
        path = self._file(left.mark[0])
        half = path.with_suffix(".half")
        half.write_text(json.dumps(left))
        half.rename(path)

    def _file(self, name: str) -> Path:
        return self.house.place / f"{name}.thread"


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True
