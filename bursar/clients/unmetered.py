"""What costs money and cannot be metered call by call: named, so that it is warned of once, or refused."""

from __future__ import annotations

import functools
import warnings
from typing import TYPE_CHECKING, Any, Final

from bursar.words.errors import BursarWarning, ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from bursar.clients.guard import Guard

_FREE: Final = ("/count_tokens", "/input_tokens", "/cancel", "/uploads")
"""Ends of paths that cost nothing, by the vendors' price pages."""
_FREE_ROOTS: Final = frozenset({"conversations", "moderations", "organization", "organizations", "projects"})
"""Beginnings of paths that cost nothing, whatever follows."""
METERED: Final = frozenset({"messages", "chat", "embeddings", "completions", "compact"})
"""Entry points of which every call is metered as it is sent, whatever its body."""
LATER: Final = {
    "batches": "each is charged at its bound, and row by row at batch prices once a wrapped client reads its results",
    "background responses": "each is charged at its bound until a wrapped client's responses.retrieve brings its end",
}
_HOLDERS: Final = ("realtime", "responses", "live", "beta")
_WATCHED: Final = "_bursar_watched"
_said: set[str] = set()


def kind_of(method: str, url: str, body: Any) -> str | None:
    """Name what a request buys that is not metered as it is sent, or None: it is metered, or free.

    What is not known to be free is named: a new endpoint of a vendor is not taken for a gift.
    """
    if method.lower() != "post":
        return None
    path = url.split("?", 1)[0].rstrip("/")
    if path.endswith("/responses") and isinstance(body, dict) and body.get("background") is True:
        return "background responses"
    parts = [part for part in path.split("/") if part and part != "v1"]
    if _is_free(path, parts):
        return None
    if "batches" in parts:
        return "batches"
    return "/".join(parts[:2]) if parts[:1] == ["responses"] else parts[0] if parts else None


def _is_free(path: str, parts: list[str]) -> bool:
    # What is posted under a stored chat completion changes its tags.
    stored = parts[:2] == ["chat", "completions"] and len(parts) > 2
    return stored or path.endswith(_FREE) or bool(parts and parts[0] in _FREE_ROOTS)


def notice(kind: str, *, strict: bool) -> None:
    """Warn of a kind once in a process; a strict client raises `ConfigError` before anything is sent."""
    when = LATER.get(kind, "what they cost is neither limited nor recorded")
    if strict:
        raise ConfigError(
            f"strict=True refuses {kind}, which cannot be metered call by call; nothing was sent. Use a client that is "
            "not wrapped, or bursar.wrap(client) without strict: then " + when + "."
        )
    if kind not in _said:
        _said.add(kind)
        warnings.warn(f"{kind} cannot be metered call by call: {when}.", BursarWarning, stacklevel=2)


def sockets(base: Any, guarded: Callable[[Any], Guard | None]) -> dict[str, property]:
    """Properties that stand before a client's resources and name their websockets, which no request passes by.

    `guarded` is asked, when a connection is made, which guard the client carries.
    """
    return {name: _resource(getattr(base, name), name, guarded) for name in _HOLDERS if hasattr(base, name)}


def _resource(cached: Any, name: str, guarded: Callable[[Any], Guard | None]) -> property:
    def found(holder: Any) -> Any:
        resource = cached.__get__(holder, type(holder))
        if _WATCHED not in resource.__dict__:
            _watch(resource, name, guarded)
        return resource

    return property(found)


def _watch(resource: Any, name: str, guarded: Callable[[Any], Guard | None]) -> None:
    """Name the websockets of a resource and of those inside it."""
    resource.__dict__[_WATCHED] = True
    if hasattr(resource, "connect"):
        resource.__dict__["connect"] = _noticed(resource, f"{name} websockets", guarded)
    for inner, made in vars(type(resource)).items():
        if isinstance(made, functools.cached_property) and not inner.startswith("with_"):
            _watch(getattr(resource, inner), inner if name == "beta" else name, guarded)


def _noticed(resource: Any, kind: str, guarded: Callable[[Any], Guard | None]) -> Any:
    connect, client = resource.connect, resource._client  # noqa: SLF001 - where every resource has its client

    def noticed(*args: Any, **kwargs: Any) -> Any:
        guard = guarded(client)
        if guard is not None:
            notice(kind, strict=guard.strict)
        return connect(*args, **kwargs)

    return noticed
