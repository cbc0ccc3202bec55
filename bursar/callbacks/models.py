"""Put wrapped clients into LangChain's models: `bursar.wrap(model)`.

Their own retries, the lifetimes of cache writes and the usage of streams behind any base URL are then seen, and calls
wait and are clamped as those of the SDK are. A mark in the model's metadata tells the callback handler that somebody
nearer the wire admits its calls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NoReturn

from bursar.clients.usage import fields
from bursar.words.errors import ConfigError

if TYPE_CHECKING:
    from bursar.clients.guard import Guard

MARK: Final = "bursar"
"""The key in a model's metadata, and in that of its calls."""
WRAPPED: Final = "wrapped"


def guarded(model: Any, guard: Guard) -> Any:
    """A copy of the model whose clients carry the guard. Raises `TypeError` for a model of another vendor."""
    kinds = {(cls.__module__.partition(".")[0], cls.__name__) for cls in type(model).__mro__}
    if ("langchain_anthropic", "ChatAnthropic") in kinds:
        return _marked(_with_anthropic(model.model_copy(), guard))
    if ("langchain_openai", "BaseChatOpenAI") in kinds:
        return _marked(_with_openai(model.model_copy(), guard))
    if ("langchain_openai", "OpenAIEmbeddings") in kinds:
        return _with_embeddings(model.model_copy(), guard)
    raise TypeError(
        f"wrap() knows the clients inside of ChatAnthropic, ChatOpenAI and OpenAIEmbeddings, not those of "
        f"{type(model).__module__}.{type(model).__qualname__}. Open bursar.run(...) round its calls: there they are "
        "gated and metered; in an agent add BursarMiddleware(), which waits and clamps as well. (Of "
        "model.bind_tools(...) and the like wrap the model first.)"
    )


def is_wrapped(model: Any) -> bool:
    """Whether a model, or the one inside of a binding, carries the mark."""
    # A binding has its model among its fields; what a model of LangChain's lacks takes it long to miss.
    bound = fields(model).get("bound", model)
    metadata = getattr(bound, "metadata", None)
    return isinstance(metadata, dict) and metadata.get(MARK) == WRAPPED


def _with_anthropic(model: Any, guard: Guard) -> Any:
    from bursar.clients import anthropic

    # Both are cached properties: what is in the instance's own dictionary is what they answer.
    model.__dict__["_client"] = anthropic.guarded(model._client, guard)  # noqa: SLF001 - there is no other way in
    model.__dict__["_async_client"] = anthropic.guarded(model._async_client, guard)  # noqa: SLF001
    # What it makes are new models with clients of their own, and the mark: nobody would admit their calls.
    model.__dict__["configurable_fields"] = _refused
    return model


def _refused(**fields: Any) -> NoReturn:
    raise ConfigError(
        f"configurable_fields({', '.join(fields)}) of a wrapped ChatAnthropic makes models whose clients are not "
        "wrapped. Leave the model unwrapped and open bursar.run(...) round its calls, where they are gated all the "
        "same; or change it by model.model_copy(update={...}), which keeps the wrapped clients."
    )


def _with_openai(model: Any, guard: Guard) -> Any:
    from bursar.clients import openai

    # One of them is missing where the other's key is a function of the other kind.
    if model.root_client is not None:
        model.root_client = openai.guarded(model.root_client, guard)
        model.client = model.root_client.chat.completions
    if model.root_async_client is not None:
        model.root_async_client = openai.guarded(model.root_async_client, guard)
        model.async_client = model.root_async_client.chat.completions
    return model


def _with_embeddings(model: Any, guard: Guard) -> Any:
    from bursar.clients import openai

    if model.client is not None:
        model.client = openai.guarded(model.client._client, guard).embeddings  # noqa: SLF001 - where a resource has it
    if model.async_client is not None:
        model.async_client = openai.guarded(model.async_client._client, guard).embeddings  # noqa: SLF001
    return model


def _marked(model: Any) -> Any:
    model.metadata = {**(model.metadata or {}), MARK: WRAPPED}
    return model
