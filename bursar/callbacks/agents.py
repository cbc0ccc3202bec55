"""The middleware for `langchain.agents.create_agent`: calls wait their turn and are clamped, and a stop is an end.

It stands round the model's node. A model that was wrapped admits its calls itself; for every other one the middleware
does. Whatever happens inside, retries of other middlewares included, is charged where this stands: it is lent to the
handler, which is there without being passed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, NotRequired

from langchain.agents.middleware import AgentMiddleware, AgentState, ExtendedModelResponse, ModelResponse
from langchain.agents.middleware.types import PrivateStateAttr
from langchain_core.messages import AIMessage
from langgraph.config import get_config
from langgraph.types import Command

from bursar import _hook
from bursar._accounts import Account
from bursar._clock import new_id
from bursar._errors import ConfigError, Stopped
from bursar._frames import check_guards, make_who, merged_frame, narrow
from bursar._lent import Loan
from bursar._ports import Scope
from bursar._scoped import ScopedFrame, last_frame, opened_frame, scoped_frame
from bursar.callbacks.agent_requests import clamped, request_of_agent
from bursar.callbacks.calls import give_up, guard
from bursar.callbacks.models import is_wrapped
from bursar.callbacks.offers import Offer, make, withdraw
from bursar.callbacks.tags import tagged, tags_of
from bursar.clients.guard import Guard

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from bursar._frames import Spec

_ON_STOP: Final = ("finish", "raise", "pause")


def _added(one: dict[str, int] | None, other: dict[str, int] | None) -> dict[str, int]:
    names = {**(one or {}), **(other or {})}
    return {name: (one or {}).get(name, 0) + (other or {}).get(name, 0) for name in names}


class BursarState(AgentState[Any]):
    """What the model calls of a thread were charged: `nusd` (nano-dollars), `tokens`, `model_calls`.

    Kept by the checkpointer, shown neither on input nor on output.
    """

    # The reducer comes last: LangGraph takes no other for one.
    bursar_spent: NotRequired[Annotated[dict[str, int], PrivateStateAttr, _added]]


class BursarMiddleware(AgentMiddleware[Any, Any, Any]):
    """Limit the model calls of an agent: `create_agent(model, tools, middleware=[..., BursarMiddleware()])`.

    Inside of `bursar.run(...)`, or under a handler, calls are limited by that run; guards given here limit all calls
    of the agent over the life of the middleware. Put it last, so that it stands nearest to the model. What a stop does
    is `on_stop`:

    - "finish": the agent answers once more from what was set aside (`Budget(reserve_final=...)`), without tools;
      where nothing was, it ends with a message that says why
    - "raise": `Stopped` leaves the agent
    - "pause": the graph drains with `langgraph.errors.GraphDrained`, its cause the stop; with a checkpointer
      `agent.invoke(None, config)` goes on where it stood, once the limit was raised

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
        self._guard = Guard(make_who(workflow, user=user, session=session, **tags), check_guards(guards))
        _hook.attach()

    @property
    def name(self) -> str:
        """What the agent calls this middleware."""
        return self._name

    def wrap_model_call(self, request: Any, handler: Callable[[Any], Any]) -> Any:
        """Admit a model call of the agent, waiting for its turn."""
        place = _Place(self._guard)
        try:
            return place.counted(self._call(place, request, handler, place.frame))
        except Stopped as stop:
            self._stop(stop, request)
            try:
                last = self._call(place, request, handler, place.last()) if place.frame.reserves else None
            except Stopped:
                last = None
            return place.counted(_ended(stop) if last is None else last)

    async def awrap_model_call(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        """As `wrap_model_call`, awaiting its turn."""
        place = _Place(self._guard)
        try:
            return place.counted(await self._acall(place, request, handler, place.frame))
        except Stopped as stop:
            self._stop(stop, request)
            try:
                last = await self._acall(place, request, handler, place.last()) if place.frame.reserves else None
            except Stopped:
                last = None
            return place.counted(_ended(stop) if last is None else last)

    def _call(self, place: _Place, request: Any, handler: Callable[[Any], Any], frame: ScopedFrame) -> Any:
        loan = place.lend(frame)
        try:
            if is_wrapped(request.model):
                return handler(request)
            plain = guard()
            call = plain.begin(request_of_agent(request), inside=frame)
            attempt = plain.open(call)
            offer = Offer(plain, call, attempt)
            token = make(offer)
            try:
                return handler(clamped(request, attempt, call.request.provider))
            except BaseException as error:
                _close(offer, error)
                raise
            finally:
                _close(offer, None)
                withdraw(token)
        finally:
            loan.close()

    async def _acall(
        self, place: _Place, request: Any, handler: Callable[[Any], Awaitable[Any]], frame: ScopedFrame
    ) -> Any:
        loan = place.lend(frame)
        try:
            if is_wrapped(request.model):
                return await handler(request)
            plain = guard()
            call = plain.begin(request_of_agent(request), inside=frame)
            attempt = await plain.aopen(call)
            offer = Offer(plain, call, attempt)
            token = make(offer)
            try:
                return await handler(clamped(request, attempt, call.request.provider))
            except BaseException as error:
                _close(offer, error)
                raise
            finally:
                _close(offer, None)
                withdraw(token)
        finally:
            loan.close()

    def _stop(self, stop: Stopped, request: Any) -> None:
        """Raise what a stop becomes, unless it is to be an end."""
        if self._on_stop == "raise":
            raise stop
        if self._on_stop == "pause":
            control = getattr(request.runtime, "control", None)
            if control is not None:
                control.request_drain(stop.reason)
            raise _drained()(stop.reason) from stop


class _Place:
    """Where one model node runs: the frame of its calls, with an account that adds up what they are charged."""

    def __init__(self, guard: Guard) -> None:
        inner, own = scoped_frame(), guard.frame()
        frame = own if inner is None else merged_frame(own, inner)
        self._account = Account(Scope("node", new_id()), None, frame.owner)
        self.frame = narrow(tagged(frame, tags_of(get_config().get("metadata"))), [(None, self._account)])

    def lend(self, frame: ScopedFrame) -> Loan:
        return Loan(frame, opened_frame()).lend()

    def last(self) -> ScopedFrame:
        return last_frame(self.frame, self.frame.reserves)

    def counted(self, answer: Any) -> Any:
        """The answer, and what its calls were charged for the state of the thread."""
        settled = self._account.balance().settled
        spent = {"nusd": settled.nusd, "tokens": settled.tokens, "model_calls": settled.model_calls}
        response = ModelResponse(result=[answer]) if isinstance(answer, AIMessage) else answer
        if not isinstance(response, ModelResponse):
            return response
        return ExtendedModelResponse(response, Command(update={"bursar_spent": spent}))


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
