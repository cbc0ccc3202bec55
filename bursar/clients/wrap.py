"""`bursar.wrap`: the same client back, with its calls limited and recorded."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from bursar.clients.guard import Guard
from bursar.runs.frames import check_guards, make_who

if TYPE_CHECKING:
    from bursar.runs.frames import Spec

Client = TypeVar("Client")


def wrap(
    client: Client,
    *guards: Spec,
    workflow: str | None = None,
    user: str | None = None,
    session: str | None = None,
    strict: bool = False,
    **tags: str,
) -> Client:
    """Guard a client of `anthropic` or `openai`, sync or async, or the module `openai`; the same type comes back.

    Of LangChain it takes ChatAnthropic, ChatOpenAI and OpenAIEmbeddings (and what is derived from them): the copy that
    comes back has wrapped clients inside.

    Inside `bursar.run(...)` its calls hold on the run's budget; outside they are recorded under the tags given
    here, and limited by the guards given here, over the life of the client. The client handed in is not changed (the
    module is). What cannot be metered call by call (batches, images, websockets, ...) is warned of once; with
    `strict` it raises `ConfigError` before anything is sent.
    Raises `TypeError` for what is no such client, `ConfigError` for a tag that is empty.
    """
    guard = Guard(make_who(workflow, user=user, session=session, **tags), check_guards(guards), strict=strict)
    adapter = _adapter(client)
    guarded: Client = adapter(client, guard)
    return guarded


def _adapter(client: Any) -> Any:
    if isinstance(client, ModuleType) and client.__name__ == "openai":
        from bursar.clients import openai_module

        return openai_module.guarded
    names = {(cls.__module__.partition(".")[0], cls.__name__) for cls in type(client).__mro__}
    if names & {("anthropic", "SyncAPIClient"), ("anthropic", "AsyncAPIClient")}:
        from bursar.clients import anthropic

        return anthropic.guarded
    if names & {("openai", "OpenAI"), ("openai", "AsyncOpenAI")}:
        from bursar.clients import openai

        return openai.guarded
    if names & {("langchain_core", "BaseLanguageModel"), ("langchain_core", "Embeddings")}:
        # By name: that room stands on this one.
        return import_module("bursar.callbacks.models").guarded
    raise TypeError(
        "wrap() takes a client of anthropic or openai (or their Async forms) or a LangChain model of theirs, not "
        f"{type(client).__module__}.{type(client).__qualname__}; for anything else open bursar.run(...) round it "
        "and wrap the client inside"
    )
