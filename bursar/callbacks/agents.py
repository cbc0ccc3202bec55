"""The middleware for `langchain.agents.create_agent`: calls wait their turn and are clamped, and a stop is an end.

It stands round the model's node, and for the loop guard round each tool call. A model that was wrapped admits its calls
itself; for every other one the middleware does. Whatever happens inside, retries of other middlewares included, is
charged where this stands: it is lent to the handler, which is there without being passed.
"""

from __future__ import annotations

from contextlib import closing, contextmanager
from inspect import signature
from typing import TYPE_CHECKING, Annotated, Any, Final, NotRequired

from langchain.agents.middleware import AgentMiddleware, AgentState
from langchain.agents.middleware.types import PrivateStateAttr
from langchain_core.messages import AIMessage

from bursar.callbacks.agent_gates import GatedCall, gate_request
from bursar.callbacks.agent_loops import amade, check_tool, is_judged, made
from bursar.callbacks.agent_memory import AgentMemories, newest
from bursar.callbacks.agent_nodes import MEMORY, AgentNode, agent_frame
from bursar.callbacks.agent_requests import clamped, request_of_agent
from bursar.callbacks.calls import give_up, guard
from bursar.callbacks.models import is_wrapped
from bursar.callbacks.offers import Offer, make, withdraw
from bursar.clients.guard import Guard
from bursar.runs import hook as _hook
from bursar.runs.frames import check_guards, make_who
from bursar.words.errors import ConfigError, Stopped

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from bursar.callbacks.agent_memory import AgentMemory
    from bursar.flow.call import Attempt, Call
    from bursar.runs.frames import Spec
    from bursar.runs.scoped import ScopedFrame

_ON_STOP: Final = ("finish", "raise", "pause")


def _added(one: dict[str, int] | None, other: dict[str, int] | None) -> dict[str, int]:
    if not one or not other:
        return dict(one or other or {})
    return {name: one.get(name, 0) + other.get(name, 0) for name in {**one, **other}}


class BursarState(AgentState[Any]):
    """What the model calls of a thread were charged, and what its guards remember.

    `bursar_spent`: `nusd` (nano-dollars), `tokens`, `model_calls`. `bursar_memory`: what the loop guard has seen, as
    hashes, and where the window has cut. Kept by the checkpointer, shown neither on input nor on output.
    """

    # The reducer comes last: LangGraph takes no other for one.
    bursar_spent: NotRequired[Annotated[dict[str, int], PrivateStateAttr, _added]]
    bursar_memory: NotRequired[Annotated[dict[str, Any], PrivateStateAttr, newest]]


class BursarMiddleware(AgentMiddleware[Any, Any, Any]):
    """Limit the model calls of an agent: `create_agent(model, tools, middleware=[..., BursarMiddleware()])`.

    Inside of `bursar.run(...)`, or under a handler, calls are limited by that run; budgets given here limit all calls
    of the agent over the life of the middleware, a `LoopGuard` and a `ContextWindow` given here hold in place of the
    run's. Put it last, so that it stands nearest to the model. What a stop does is `on_stop`:

    - "finish": the agent answers once more from what was set aside (`Budget(reserve_final=...)`), without tools;
      where nothing was, it ends with a message that says why
    - "raise": `Stopped` leaves the agent
    - "pause": the graph drains with `langgraph.errors.GraphDrained`, its cause the stop; with a checkpointer
      `agent.invoke(None, config)` goes on where it stood, once the limit was raised

    The loop guard's notes stand in what the model is sent, right after the results that they are about; calls that it
    refuses get a `ToolMessage` that says so. The window trims what is sent and never the agent's own messages. What
    both remember is kept by the checkpointer.

    `name` must be another for each of two instances. Raises `ConfigError` for another `on_stop`, and for "pause" with a
    LangGraph that cannot drain.
    """

    state_schema = BursarState

    def __init__(
        self,
        *guards: Spec,
        on_stop: str = "finish",
        name: str | None = None,
        workflow: str | None = None,
        user: str | None = None,
        session: str | None = None,
        **tags: str,
    ) -> None:
        super().__init__()
        if on_stop not in _ON_STOP:
            raise ConfigError(f"on_stop={on_stop!r} is none of 'finish', 'raise' and 'pause'")
        if on_stop == "pause" and _drained() is None:
            raise ConfigError("on_stop='pause' needs a LangGraph that can drain a run: 1.2 or newer")
        self._on_stop, self._name = on_stop, name or type(self).__name__
        self._memories = AgentMemories()
        self._guard = Guard(make_who(workflow, user=user, session=session, **tags), check_guards(guards))
        _hook.attach()

    @property
    def name(self) -> str:
        """What the agent calls this middleware."""
        return self._name

    def wrap_model_call(self, request: Any, handler: Callable[[Any], Any]) -> Any:
        """Admit a model call of the agent, waiting for its turn; what it is sent is judged and trimmed before."""
        node = AgentNode(self._guard, self._memories, self._name, request)
        if node.cut is not None and node.cut.summarises:
            node.cut.summarise(lambda asked: self._call(node, asked, handler, node.apart()))
        node.steer()
        try:
            return node.counted(self._call(node, node.request, handler, node.frame))
        except Stopped as stop:
            self._stop(stop, request)
            try:
                last = self._call(node, node.request, handler, node.last(stop)) if node.frame.reserves else None
            except Stopped:
                last = None
            return node.counted(_ended(stop) if last is None else last)

    async def awrap_model_call(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        """As `wrap_model_call`, awaiting its turn."""
        node = AgentNode(self._guard, self._memories, self._name, request)
        if node.cut is not None and node.cut.summarises:
            await node.cut.asummarise(lambda asked: self._acall(node, asked, handler, node.apart()))
        node.steer()
        try:
            return node.counted(await self._acall(node, node.request, handler, node.frame))
        except Stopped as stop:
            self._stop(stop, request)
            try:
                last = await self._acall(node, node.request, handler, node.last(stop)) if node.frame.reserves else None
            except Stopped:
                last = None
            return node.counted(_ended(stop) if last is None else last)

    def wrap_tool_call(self, request: Any, handler: Callable[[Any], Any]) -> Any:
        """Let a tool call go, or put a message in place of its result where the loop guard refuses it."""
        frame = self._judging(request)
        check = None if frame is None else check_tool(request, self._memory(request), frame)
        refused = None if check is None else check.refused()
        if refused is not None:
            return refused
        with GatedCall(request, agent_frame(self._guard)) as gate:
            gate.ask()
            if gate.refused is not None:
                return gate.refused
            return handler(gate.request) if frame is None else made(gate.request, handler)

    async def awrap_tool_call(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        """As `wrap_tool_call`."""
        frame = self._judging(request)
        check = None if frame is None else check_tool(request, self._memory(request), frame)
        refused = None if check is None else await check.arefused()
        if refused is not None:
            return refused
        with GatedCall(request, agent_frame(self._guard)) as gate:
            await gate.aask()
            if gate.refused is not None:
                return gate.refused
            return await handler(gate.request) if frame is None else await amade(gate.request, handler)

    def _judging(self, request: Any) -> ScopedFrame | None:
        """The frame of a tool call that the loop guard is to judge here, None where it is not."""
        state = request.state
        if is_judged(request) or not isinstance(state, dict):
            return None
        if self._name not in (state.get(MEMORY) or {}):
            return None
        frame = agent_frame(self._guard)
        return None if frame.loops is None else frame

    def _memory(self, request: Any) -> AgentMemory:
        return self._memories.find(request.state[MEMORY][self._name])

    def _call(self, node: AgentNode, request: Any, handler: Callable[[Any], Any], frame: ScopedFrame) -> Any:
        with closing(node.lend(frame)):
            if is_wrapped(request.model):
                return handler(request)
            plain = guard()
            call = plain.begin(request_of_agent(request), inside=frame)
            gate_request(call, request)
            attempt = plain.open(call)
            with _offered(plain, call, attempt):
                return handler(clamped(request, attempt, call.request.provider))

    async def _acall(
        self, node: AgentNode, request: Any, handler: Callable[[Any], Awaitable[Any]], frame: ScopedFrame
    ) -> Any:
        with closing(node.lend(frame)):
            if is_wrapped(request.model):
                return await handler(request)
            plain = guard()
            call = plain.begin(request_of_agent(request), inside=frame)
            gate_request(call, request)
            attempt = await plain.aopen(call)
            with _offered(plain, call, attempt):
                return await handler(clamped(request, attempt, call.request.provider))

    def _stop(self, stop: Stopped, request: Any) -> None:
        """Raise what a stop becomes, unless it is to be an end."""
        if self._on_stop == "raise":
            raise stop
        if self._on_stop == "pause":
            control = getattr(request.runtime, "control", None)
            if control is not None:
                control.request_drain(stop.reason)
            raise _drained()(stop.reason) from stop


# LangChain's tracing asks for the signatures of these at every call; looked up here they are not made anew each time.
for _wrap in ("wrap_model_call", "awrap_model_call", "wrap_tool_call", "awrap_tool_call"):
    _method: Any = getattr(BursarMiddleware, _wrap)
    _method.__signature__ = signature(_method)


@contextmanager
def _offered(plain: Guard, call: Call, attempt: Attempt) -> Iterator[None]:
    """Offer what was admitted to the model that is called here; what nobody has ended by then is ended."""
    offer = Offer(plain, call, attempt)
    token = make(offer)
    try:
        yield
    except BaseException as error:
        _close(offer, error)
        raise
    finally:
        _close(offer, None)
        withdraw(token)


def _close(offer: Offer, error: BaseException | None) -> None:
    taken = offer.taken
    if taken is not None:
        # Begun by a model: its own end has closed it, unless it was cancelled and nobody was told.
        if error is not None:
            taken.failed(error)
    elif not offer.attempt.closed:
        offer.open = False
        give_up(offer.call, offer.attempt)


def _ended(stop: Stopped) -> AIMessage:
    partial = getattr(stop, "partial", None)
    return AIMessage(content=partial or f"Stopped before an answer: {stop}", response_metadata={"stop": stop.reason})


def _drained() -> Any:
    from langgraph import errors

    return getattr(errors, "GraphDrained", None)
