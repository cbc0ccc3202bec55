"""Attach to the module `openai`, whose `openai.chat...` calls a client that the module makes when it needs one.

It makes another whenever it has none (after `openai._reset_client()`, or in another process), so what is guarded is
the making.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from bursar.clients.openai import give, guard_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from bursar.clients.guard import Guard

_LOAD: Final = "_load_client"


class _GuardedLoad:
    """Stands where the module looks for its client: whichever it gives carries the guard."""

    def __init__(self, load: Callable[[], Any], guard: Guard) -> None:
        self.load, self.guard = load, guard

    def __call__(self) -> Any:
        client = self.load()
        if guard_of(client) is not self.guard:
            give(client, self.guard)
        return client


def guarded(module: Any, guard: Guard) -> Any:
    """The module itself, whose every client carries the guard from now on."""
    load, held = getattr(module, _LOAD), module._client  # noqa: SLF001 - the module has no other door
    if isinstance(load, _GuardedLoad):
        guard, load = guard.over(load.guard), load.load
    elif held is not None:
        guard = guard.over(guard_of(held))
    loading = _GuardedLoad(load, guard)
    for holder in (module, import_module("openai._module_client")):
        setattr(holder, _LOAD, loading)
    if held is not None:
        # Somebody may hold a resource of it already.
        loading()
    return module
