"""Where one model node of an agent runs: the frame of its calls, what the guards make of its request, what it cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain.agents.middleware import ExtendedModelResponse, ModelResponse
from langchain_core.messages import AIMessage
from langgraph.config import get_config
from langgraph.types import Command

from bursar.callbacks.agent_loops import judge
from bursar.callbacks.agent_requests import provider_of, without_tools
from bursar.callbacks.agent_steps import with_notes
from bursar.callbacks.agent_windows import AgentCut
from bursar.callbacks.tags import tagged, tags_of
from bursar.runs.accounts import Account
from bursar.runs.judged import Judged
from bursar.runs.lent import Loan
from bursar.runs.scoped import ScopedFrame, changed, last_frame, opened_frame
from bursar.words.clock import new_id
from bursar.words.errors import LoopDetected
from bursar.words.ports import Scope

if TYPE_CHECKING:
    from bursar.callbacks.agent_memory import AgentMemories
    from bursar.clients.guard import Guard
    from bursar.runs.loops import Look
    from bursar.words.errors import Stopped

MEMORY = "bursar_memory"
"""The key of the agent's state under which its memories are, by the name of the middleware."""


def agent_frame(guard: Guard) -> ScopedFrame:
    """The frame of what an agent does here: the run's, and the guards of its own, which are nearer than the run's."""
    frame, own = guard.here(), guard.frame()
    if frame is own or (own.loops is None and own.context is None):
        return frame
    return changed(frame, loops=own.loops or frame.loops, context=own.context or frame.context)


def _counting(frame: ScopedFrame, account: Account) -> ScopedFrame:
    """The frame with an account that limits nothing."""
    return changed(frame, path=(*frame.path, account.scope), accounts=(*frame.accounts, account))


class AgentNode:
    """One model node: its frame, with an account that adds up what its calls are charged, and its request."""

    def __init__(self, guard: Guard, memories: AgentMemories, name: str, request: Any) -> None:
        frame = agent_frame(guard)
        self._account = Account(Scope("node", new_id()), None, frame.owner)
        self._memories, self._name = memories, name
        self._bare = _counting(tagged(frame, tags_of(get_config().get("metadata"))), self._account)
        self._remembers = frame.judged is None and (frame.loops is not None or frame.context is not None)
        self._look: Look | None = None
        self.cut: AgentCut | None = None
        self.request, self.frame = request, self._bare
        if self._remembers:
            self.memory, anew = memories.take((request.state.get(MEMORY) or {}).get(name))
            self._look = judge(self.memory, request.messages, self._bare, anew=anew)
            if frame.context is not None:
                self.cut = AgentCut(request, self.memory, self._bare)
                self.cut.take()

    def apart(self) -> ScopedFrame:
        """The frame of a call that is none of the agent's own: no guard looks at what it says."""
        return changed(self._bare, judged=Judged(quiet=True))

    def steer(self) -> None:
        """Put what the guards have decided into the request, and what they have seen into the frame of its calls."""
        if not self._remembers:
            return
        request, look, conversation = self.request, self._look, self.memory.loops
        messages, trimmed = (request.messages, None) if self.cut is None else self.cut.sent()
        if trimmed is not None and trimmed.forgotten:
            with conversation.lock:
                # Reading again what the model no longer sees is fair.
                conversation.state.forget(set(trimmed.forgotten))
        if not self._bare.observe and look is not None:
            if conversation.notes:
                messages = with_notes(messages, conversation.notes)
            if look.last:
                request = without_tools(request, provider_of(request.model))
        if messages is not request.messages:
            request = request.override(messages=messages)
        notes = () if self.cut is None else self.cut.notes
        self.request, self.frame = request, changed(self._bare, judged=Judged(look, trimmed, notes))

    def lend(self, frame: ScopedFrame) -> Loan:
        """Let the calls of the node find this frame."""
        return Loan(frame, opened_frame()).lend()

    def last(self, stop: Stopped) -> ScopedFrame:
        """The frame of the one call that may draw on what was set aside."""
        # Of a loop nothing more is to be said: this is the answer that ends it.
        frame = self.apart() if isinstance(stop, LoopDetected) else self.frame
        return last_frame(frame, frame.reserves)

    def counted(self, answer: Any) -> Any:
        """The answer, and for the state of the thread what its calls were charged and what the guards remember."""
        settled = self._account.balance().settled
        spent = {"nusd": settled.nusd, "tokens": settled.tokens, "model_calls": settled.model_calls}
        response = ModelResponse(result=[answer]) if isinstance(answer, AIMessage) else answer
        if not isinstance(response, ModelResponse):
            return response
        update: dict[str, Any] = {"bursar_spent": spent}
        if self._remembers:
            self.memory.loops.answered_us = self.frame.owner.world.clock.wall_us()
            self.memory.loops.spent(self.frame.run)
            update[MEMORY] = {self._name: self._memories.keep(self.memory)}
        return ExtendedModelResponse(response, Command(update=update))
