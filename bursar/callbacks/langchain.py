"""The callback handler for LangChain and LangGraph: it gates and meters every model call, wherever it is attached.

It is called back in the thread or task of the call, before the request is made, and can refuse it there. It cannot
change a request, and where an event loop runs it cannot wait. A model that was wrapped, or an agent's middleware, does
both: then the handler only says what run, node and tags the call belongs to, and closes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from langchain_core.callbacks import BaseCallbackHandler

from bursar.callbacks.answers import of_decision, of_result
from bursar.callbacks.calls import begin, calls, pop, withdraw_batch
from bursar.callbacks.fallbacks import falls_back
from bursar.callbacks.invocations import Invocations
from bursar.callbacks.requests import Asking
from bursar.callbacks.roots import Root, roots
from bursar.callbacks.shapes import model_of
from bursar.callbacks.starts import admitted, refused, tighten
from bursar.callbacks.stream_words import arguments_of, words_of
from bursar.callbacks.told import tell
from bursar.callbacks.tool_starts import gate_end, gate_start
from bursar.runs.frames import check_guards, check_tags
from bursar.runs.scoped import scoped_frame
from bursar.words.errors import ConfigError, Stopped

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from bursar.runs.frames import Spec
    from bursar.runs.run import Run

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
    # Asked for at each event: LangChain's own are properties.
    ignore_llm = ignore_chat_model = ignore_chain = False

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
        told: dict[str, str | None] = {"user": user, "session": session, **tags}
        # Not more: who is told for is found where a run opens, by the settings of that time.
        check_tags(workflow=workflow, **told)
        observe = None if mode is None else mode == "observe"
        self._invocations = Invocations(workflow, check_guards(guards), per, told, observe=observe)

    @property
    def last_run(self) -> Run | None:
        """The run of the last invocation."""
        return self._invocations.last_run

    def close(self) -> None:
        """End the run of `per="instance"`; the next invocation opens another."""
        self._invocations.close()

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
        name = kwargs.get("name")
        root = self._part(run_id, parent_run_id, metadata, name, "on_chain_error")
        if root is not None and falls_back(run_id):
            root.falls_back(run_id.int)
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
        root = self._part(run_id, parent_run_id, metadata, kwargs.get("name"), "on_tool_error")
        frame = scoped_frame() or (root.frame if root is not None else None)
        if frame is None or frame.gates is None:
            return
        given = kwargs.get("inputs")
        name = kwargs.get("name") or (serialized or {}).get("name") or "tool"
        try:
            gate_start(str(name), given if isinstance(given, dict) else {"input": input_str}, run_id.int, frame)
        except BaseException as error:
            self.on_tool_error(error, run_id=run_id)
            tell(self, "on_tool_error", error, run_id, parent_run_id)
            raise

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
        self._part(run_id, parent_run_id, metadata, kwargs.get("name"), "on_retriever_error")

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
        params, known = kwargs.get("invocation_params") or {}, metadata or {}
        asking = Asking(params, known, messages[0] if messages else ())
        several = kwargs.get("batch_size", 1) > 1
        self._model_start(asking, run_id, parent_run_id, model_of(params, known), known, several=several)

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
        params, known = kwargs.get("invocation_params") or {}, metadata or {}
        asking = Asking(params, known, prompt=prompts[0] if prompts else "")
        several = kwargs.get("batch_size", 1) > 1
        self._model_start(asking, run_id, parent_run_id, model_of(params, known), known, several=several)

    def on_llm_new_token(self, token: Any, *, chunk: Any = None, run_id: UUID, **kwargs: Any) -> None:
        """Watch a stream. Raises `BudgetExceeded`, which ends it, where it outgrows its hold and there is no room.

        And `LoopDetected` where it says the same again and again.
        """
        calling = calls.get(run_id.int)
        if calling is not None:
            words = words_of(token)
            calling.said(words or arguments_of(chunk), words=bool(words))

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
        self, run_id: UUID, parent_run_id: UUID | None, metadata: Mapping[str, Any] | None, name: str | None, end: str
    ) -> Root | None:
        try:
            return self._invocations.part(run_id, parent_run_id, metadata, name)
        except Stopped as error:
            tell(self, end, error, run_id, parent_run_id)
            raise

    def _part_end(self, run_id: UUID, error: BaseException | None) -> None:
        root = roots.get(run_id.int)
        if root is not None:
            root.ended(run_id.int, error)

    def _model_start(
        self,
        asking: Asking,
        run_id: UUID,
        parent_run_id: UUID | None,
        model: str,
        metadata: Mapping[str, Any],
        *,
        several: bool = False,
        end: str = "on_llm_error",
    ) -> None:
        try:
            begun = calls.get(run_id.int)
            if begun is not None:
                tighten(begun, run_id, self._invocations)
                return
            calling = admitted(asking, run_id, parent_run_id, model, metadata, self._invocations)
        except BaseException as error:
            refused(run_id, parent_run_id, error)
            if several:
                withdraw_batch(asking.params)
            tell(self, end, error, run_id, parent_run_id)
            raise
        if calling is not None:
            begin(run_id, calling)
            calling.lend(model)

    def _decision_start(
        self, inputs: Any, run_id: UUID, parent_run_id: UUID | None, metadata: Mapping[str, Any]
    ) -> None:
        asking = Asking({}, metadata, prompt=inputs if isinstance(inputs, str) else repr(inputs))
        named = model_of({}, metadata)
        self._model_start(asking, run_id, parent_run_id, named, metadata, end="on_chain_error")
