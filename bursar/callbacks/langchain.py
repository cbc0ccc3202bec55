"""The callback handler for LangChain and LangGraph: it gates and meters every model call, wherever it is attached.

It is called back in the thread or task of the call, before the request is made, and can refuse it there. It cannot
change a request, and where an event loop runs it cannot wait. A model that was wrapped, or an agent's middleware, does
both: then the handler only says what run, node and tags the call belongs to, and closes it.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, Final

from langchain_core.callbacks import BaseCallbackHandler

from bursar._accounts import Account
from bursar._clock import new_id
from bursar._errors import ConfigError
from bursar._frames import check_guards, joined, make_who, run_frame
from bursar._ports import Scope
from bursar._process import process
from bursar._scoped import scoped_frame
from bursar.callbacks.answers import of_decision, of_result
from bursar.callbacks.calls import ModelCalling, begin, calls, pop
from bursar.callbacks.models import MARK, WRAPPED
from bursar.callbacks.offers import take
from bursar.callbacks.requests import model_of, prompt_request, request_of
from bursar.callbacks.roots import Root, roots
from bursar.callbacks.tags import tagged, tags_of
from bursar.callbacks.tool_starts import gate_end, gate_start
from bursar.guards.budget import Budget

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from uuid import UUID

    from bursar._events import ModelRequest
    from bursar._frames import Spec
    from bursar._run import Run
    from bursar._scoped import ScopedFrame

    Reader = Callable[[bool | None], tuple[ModelRequest, dict[str, Any]]]

_TOLD: Final = ("user", "session", "feature", "owner", "tenant")
"""Tags of a run that are taken from the metadata of an invocation."""
_PER: Final = ("invocation", "instance", "scope")


class BursarCallbackHandler(BaseCallbackHandler):
    """Gate and meter LangChain's model calls: `config={"callbacks": [BursarCallbackHandler("triage", Budget(...))]}`.

    Each invocation from outside (of a chain, an agent, a graph, a model) is a run of its own with these guards; inside
    of a run that is open it joins that one, and adds its guards to it. With `per="instance"` all invocations share one
    run, open until `close()`. A handler that is given to a model alone sees no invocation as a whole and behaves like
    that. Takes the tags that `bursar.run` takes; without a workflow the name of what was invoked is one. Inside of
    `with bursar.run(...)` no handler need be passed at all.

    It raises `Stopped` before a call is sent that does not fit, and cuts a stream that outgrows what was held for it or
    says one thing again and again; it never raises after a call was paid for. Of a `LoopGuard` it writes down what
    would have been said and refused, and raises `LoopDetected` at the last rung; a `ContextWindow` it cannot use.

    `last_run` is the run of the last invocation. Sync, and for async calls too: an async handler could not refuse a
    sync call. Raises `ConfigError` for another `per` or a tag that is empty, `TypeError` for what is no guard.
    """

    raise_error = True
    run_inline = True

    def __init__(
        self,
        workflow: str | None = None,
        *guards: Spec,
        per: str = "invocation",
        user: str | None = None,
        session: str | None = None,
        mode: str | None = None,
        **tags: str,
    ) -> None:
        super().__init__()
        if per not in _PER:
            raise ConfigError(f"per={per!r} is neither 'invocation' nor 'instance'")
        if mode not in (None, "enforce", "observe"):
            raise ConfigError(f"mode={mode!r} is neither 'enforce' nor 'observe'")
        self.last_run: Run | None = None
        self._workflow, self._guards, self._per = workflow, check_guards(guards), per
        self._tags: dict[str, str | None] = {"user": user, "session": session, **tags}
        make_who(workflow, **self._tags)
        self._observe = None if mode is None else mode == "observe"
        self._lock = threading.Lock()
        self._shared: ScopedFrame | None = None
        self._accounts: list[tuple[Budget | None, Account]] | None = None

    def close(self) -> None:
        """End the run of `per="instance"`; the next invocation opens another."""
        with self._lock:
            frame, self._shared = self._shared, None
        if frame is not None and frame.run is not None:
            frame.run.end(None, watched=True)

    # What LangChain calls, with the names that it calls.

    def on_chain_start(
        self,
        serialized: dict[str, Any] | None,
        inputs: Any,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Note a part of an invocation, or open a run for a new one."""
        self._part(run_id, parent_run_id, metadata, kwargs.get("name"))
        if kwargs.get("run_type") == "llm":
            self._decision_start(inputs, run_id, parent_run_id, metadata or {})

    def on_tool_start(
        self,
        serialized: dict[str, Any] | None,
        input_str: str,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Note a tool: an agent inside of it belongs to the same invocation. Raises `ApprovalDenied`."""
        root = self._part(run_id, parent_run_id, metadata, kwargs.get("name"))
        frame = scoped_frame() or (root.frame if root is not None else None)
        if frame is not None and frame.gates is not None:
            given = kwargs.get("inputs")
            name = kwargs.get("name") or (serialized or {}).get("name") or "tool"
            gate_start(str(name), given if isinstance(given, dict) else {"input": input_str}, run_id.int, frame)

    def on_retriever_start(
        self,
        serialized: dict[str, Any] | None,
        query: str,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Note a retriever, which may call models."""
        self._part(run_id, parent_run_id, metadata, kwargs.get("name"))

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Forget a part; end the run of an invocation."""
        calling = pop(run_id.int)
        if calling is not None:
            calling.end(of_decision(outputs))
        self._part_end(run_id, None)

    def on_chain_error(
        self, error: BaseException, *, run_id: UUID, parent_run_id: UUID | None = None, **kwargs: Any
    ) -> None:
        """Close the calls that the part has left open, and end the run of an invocation."""
        calling = pop(run_id.int)
        if calling is not None:
            calling.failed(error)
        root = roots.get(run_id.int)
        if root is not None:
            root.sweep(run_id.int, error)
            root.stopped(None if parent_run_id is None else parent_run_id.int, error)
        self._part_end(run_id, error)

    def on_tool_end(self, output: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Forget a tool."""
        gate_end(run_id.int)
        self._part_end(run_id, None)

    def on_tool_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Forget a tool."""
        gate_end(run_id.int)
        self._part_end(run_id, error)

    def on_retriever_end(self, documents: Sequence[Any], *, run_id: UUID, **kwargs: Any) -> None:
        """Forget a retriever."""
        self._part_end(run_id, None)

    def on_retriever_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Forget a retriever."""
        self._part_end(run_id, error)

    def on_chat_model_start(
        self,
        serialized: dict[str, Any] | None,
        messages: list[list[Any]],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Admit a call, or raise `Stopped`; leave it to whoever is nearer the wire, where somebody is."""
        said, params = messages[0] if messages else [], kwargs.get("invocation_params") or {}
        known = metadata or {}
        self._model_start(
            lambda ended: request_of(said, params, known, open_ended=ended), run_id, parent_run_id, params, known, said
        )

    def on_llm_start(
        self,
        serialized: dict[str, Any] | None,
        prompts: list[str],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """As `on_chat_model_start`, for a model that takes one text."""
        prompt, params = prompts[0] if prompts else "", kwargs.get("invocation_params") or {}
        known = metadata or {}
        self._model_start(
            lambda ended: prompt_request(prompt, params, known, open_ended=ended), run_id, parent_run_id, params, known
        )

    def on_llm_new_token(self, token: Any, *, chunk: Any = None, run_id: UUID, **kwargs: Any) -> None:
        """Watch a stream. Raises `BudgetExceeded`, which ends it, where it outgrows its hold and there is no room.

        And `LoopDetected` where it says the same again and again.
        """
        calling = calls.get(run_id.int)
        if calling is not None:
            words = _words(token)
            calling.said(words or _arguments(chunk), words=bool(words))

    def on_llm_end(self, response: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Charge a call what its answer says."""
        calling = pop(run_id.int)
        if calling is not None:
            calling.end(of_result(response, words=calling.frame.owner.contents is not None))
        self._part_end(run_id, None)

    def on_llm_error(
        self, error: BaseException, *, run_id: UUID, parent_run_id: UUID | None = None, **kwargs: Any
    ) -> None:
        """Charge a call by how it failed."""
        calling = pop(run_id.int)
        if calling is not None:
            calling.failed(error)
            if calling.root is not None:
                calling.root.stopped(calling.parent, error)
        self._part_end(run_id, error)

    def _part(
        self, run_id: UUID, parent_run_id: UUID | None, metadata: Mapping[str, Any] | None, name: str | None
    ) -> Root | None:
        key, parent = run_id.int, None if parent_run_id is None else parent_run_id.int
        root = roots.get(key)
        if root is None:
            root = roots.get(parent) if parent is not None else None
            if root is None:
                return self._invoked(run_id, alone=parent is not None, metadata=metadata or {}, name=name)
            root.add(key, parent, name)
        if self._is_new_to(root):
            self._join(root)
        return root

    def _is_new_to(self, root: Root) -> bool:
        return bool(self._guards) and id(self) not in root.members

    def _join(self, root: Root) -> list[tuple[Budget | None, Account]]:
        # Another handler has begun the invocation: the limits of this one apply as well, from here on.
        added = self._added()
        root.members.add(id(self))
        root.lend(joined(scoped_frame() or root.frame, self._guards, added))
        self.last_run = root.frame.run
        return added

    def _part_end(self, run_id: UUID, error: BaseException | None) -> None:
        root = roots.get(run_id.int)
        if root is not None:
            root.ended(run_id.int, error)

    def _invoked(self, run_id: UUID, *, alone: bool, metadata: Mapping[str, Any], name: str | None) -> Root | None:
        # `alone`: this handler sees a part whose parent it was not told of.
        frame, opened = scoped_frame(), None
        joins = frame is not None and frame.run is not None
        if self._per == "scope":
            return None if frame is None else Root(run_id, name, frame, None)
        if joins:
            assert frame is not None
            base = frame
            frame = joined(frame, self._guards, self._added()) if self._guards else frame
        elif alone or self._per == "instance":
            base, frame = None, self._instance(metadata, name)
        else:
            base, frame = None, self._run_frame(metadata, name)
            opened = frame.run
        self.last_run = frame.run
        root = Root(run_id, name, frame, opened)
        root.members.add(id(self))
        if frame is not base:
            root.lend(frame)
        return root

    def _added(self) -> list[tuple[Budget | None, Account]]:
        with self._lock:
            if self._accounts is not None:
                return self._accounts
            added: list[tuple[Budget | None, Account]] = [
                (spec, Account(Scope("budget", new_id()), spec, process()))
                for spec in self._guards
                if isinstance(spec, Budget)
            ]
            if self._per == "instance":
                self._accounts = added
            return added

    def _instance(self, metadata: Mapping[str, Any], name: str | None) -> ScopedFrame:
        with self._lock:
            if self._shared is None or self._shared.owner.ended:
                self._shared = self._run_frame(metadata, name)
            return self._shared

    def _run_frame(self, metadata: Mapping[str, Any], name: str | None) -> ScopedFrame:
        known = dict(tags_of(metadata))
        told: dict[str, str | None] = {key: known[key] for key in _TOLD if key in known}
        told.update((key, value) for key, value in self._tags.items() if value is not None)
        who = make_who(self._workflow or known.get("workflow") or name, **told)
        owner = process()
        owner.adopt()
        frame = run_frame(who, self._guards, None, owner, observe=self._observe)
        assert frame.run is not None
        frame.run.open()
        return frame

    def _model_start(
        self,
        read: Reader,
        run_id: UUID,
        parent_run_id: UUID | None,
        params: Mapping[str, Any],
        metadata: Mapping[str, Any],
        said: Sequence[Any] = (),
    ) -> None:
        begun = calls.get(run_id.int)
        if begun is not None:
            self._tighten(begun, run_id)
            return
        root = self._part(run_id, parent_run_id, metadata, None)
        frame = scoped_frame() or (root.frame if root is not None else None)
        if frame is None:
            return
        tags = tags_of(metadata)
        frame = tagged(frame, tags) if root is None else root.tagged(frame, tags)
        parent = None if parent_run_id is None else parent_run_id.int
        model = model_of(params, metadata)
        # Where it can neither cap the request nor wait for others, it holds what such calls are seen to use.
        on_loop = asyncio._get_running_loop() is not None  # noqa: SLF001 - as in _drive
        open_ended = False if frame.hard else on_loop or None
        calling = ModelCalling(lambda: read(open_ended), frame, root, parent, said)
        offer = take(model)
        try:
            if offer is not None:
                calling.take(offer.guard, offer.call, offer.attempt)
                offer.taken = calling
            elif metadata.get(MARK) != WRAPPED:
                calling.open()
        except BaseException as error:
            self._refused(root, run_id, parent, error)
            raise
        begin(run_id, calling)
        calling.lend(model)

    def _tighten(self, begun: ModelCalling, run_id: UUID) -> None:
        root = begun.root
        if root is None or not self._is_new_to(root):
            return
        try:
            begun.tighten(self._join(root))
        except BaseException as error:
            pop(run_id.int)
            self._refused(root, run_id, begun.parent, error)
            raise

    def _refused(self, root: Root | None, run_id: UUID, parent: int | None, error: BaseException) -> None:
        if root is not None:
            root.stopped(parent, error)
        self._part_end(run_id, error)

    def _decision_start(
        self, inputs: Any, run_id: UUID, parent_run_id: UUID | None, metadata: Mapping[str, Any]
    ) -> None:
        text = inputs if isinstance(inputs, str) else repr(inputs)
        self._model_start(
            lambda ended: prompt_request(text, {}, metadata, open_ended=ended), run_id, parent_run_id, {}, metadata
        )


def _words(token: Any) -> str:
    if not isinstance(token, list):
        return token if isinstance(token, str) else ""
    # Of a model with tools a piece is a list of blocks.
    blocks = [block for block in token if isinstance(block, dict)]
    return "".join(block.get("text") or block.get("thinking") or "" for block in blocks)


def _arguments(chunk: Any) -> str:
    pieces = getattr(getattr(chunk, "message", None), "tool_call_chunks", None) or ()
    return "".join(piece.get("args") or "" for piece in pieces)
