"""The calls of an agent's tools and models before their gates, in the middleware."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from langchain_core.messages import ToolMessage

from bursar.callbacks.gated_tools import Outer, merged, refusal
from bursar.callbacks.tool_starts import step_of, through
from bursar.clients.gates import gate
from bursar.runs.drive import adrive, drive
from bursar.words.errors import ApprovalDenied

if TYPE_CHECKING:
    from types import TracebackType

    from bursar.flow.call import Call
    from bursar.runs.scoped import ScopedFrame


class GatedCall:
    """One call of a tool of an agent. `request` is what is to be made, `refused` what stands in place of its result."""

    def __init__(self, request: Any, frame: ScopedFrame) -> None:
        self.request = request
        self.refused: ToolMessage | None = None
        self._frame = frame
        self._outer: Outer | None = None
        call = request.tool_call
        self._step = None if frame.gates is None else step_of(str(call["name"]), call["args"], str(call["id"]), frame)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._outer is not None:
            self._outer.close()

    def ask(self) -> None:
        """Let it pass its gates, waiting for whoever is asked."""
        if self._step is not None:
            try:
                drive(through(self._step, self._frame.owner.world), self._frame.owner.desk)
            except ApprovalDenied as denied:
                self._refuse(denied)
            else:
                self._pass()

    async def aask(self) -> None:
        """As `ask`, awaiting."""
        if self._step is not None:
            try:
                await adrive(through(self._step, self._frame.owner.world), self._frame.owner.desk)
            except ApprovalDenied as denied:
                self._refuse(denied)
            else:
                self._pass()

    def _refuse(self, denied: ApprovalDenied) -> None:
        call = self.request.tool_call
        self.refused = ToolMessage(
            refusal(denied), tool_call_id=str(call["id"]), name=str(call["name"]), status="error"
        )

    def _pass(self) -> None:
        assert self._step is not None
        assert self._step.gate is not None
        if self._step.gate.edited is not None:
            args = merged(self._step.gate)
            self.request = self.request.override(tool_call={**self.request.tool_call, "args": args})
        self._outer = Outer(self._step.name, self._step.gate)


def gate_request(call: Call, request: Any) -> None:
    """Set a model call of an agent before its gates: what it says is bound to a yes, in any process."""
    if call.frame.gates is not None:
        said = ([request.system_message] if request.system_message is not None else []) + list(request.messages)
        messages = [{"role": each.type, "content": each.content, **_asked_in(each)} for each in said]
        gate(call, {"model": call.request.model, "messages": messages})


def _asked_in(message: Any) -> dict[str, Any]:
    calls = getattr(message, "tool_calls", None)
    return {"tool_calls": calls} if calls else {}
