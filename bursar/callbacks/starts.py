"""A model call of LangChain as it starts: which run it belongs to, who admits it, and what is left if nobody does."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from bursar.callbacks.calls import ModelCalling, pop
from bursar.callbacks.models import MARK, WRAPPED
from bursar.callbacks.offers import take
from bursar.callbacks.roots import roots
from bursar.callbacks.tags import tagged, tags_of
from bursar.runs.scoped import scoped_frame

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from bursar.callbacks.invocations import Invocations
    from bursar.callbacks.requests import Asking


def admitted(
    asking: Asking,
    run_id: UUID,
    parent_run_id: UUID | None,
    model: str,
    metadata: Mapping[str, Any],
    invocations: Invocations,
) -> ModelCalling | None:
    """Admit a call, or leave it to whoever is nearer the wire; None where no run is open. Raises `Stopped`."""
    root = invocations.model_part(run_id, parent_run_id, metadata)
    frame = scoped_frame() or (root.frame if root is not None else None)
    if frame is None:
        return None
    tags = tags_of(metadata)
    if tags:
        frame = tagged(frame, tags) if root is None else root.tagged(frame, tags)
    parent = None if parent_run_id is None else parent_run_id.int
    # Where it can neither cap the request nor wait for others, it holds what such calls are seen to use.
    on_loop = asyncio._get_running_loop() is not None  # noqa: SLF001 - as in _drive
    calling = ModelCalling(asking, frame, root, parent, False if frame.hard else on_loop or None)
    offer = take(model)
    if offer is not None:
        calling.take(offer.guard, offer.call, offer.attempt)
        offer.taken = calling
    elif metadata.get(MARK) != WRAPPED:
        calling.open()
    return calling


def tighten(begun: ModelCalling, run_id: UUID, invocations: Invocations) -> None:
    """Let the limits of a further handler apply to a call that another one has begun. Raises `Stopped`."""
    root = begun.root or invocations.alone(run_id, begun)
    if root is not None and invocations.is_new_to(root):
        begun.tighten(invocations.join(root))


def refused(run_id: UUID, parent_run_id: UUID | None, error: BaseException) -> None:
    """Forget a call that is not made."""
    # It has begun where the limits of one handler have let it pass, and those of another have not.
    pop(run_id.int)
    root = roots.get(run_id.int)
    if root is not None:
        root.stopped(None if parent_run_id is None else parent_run_id.int, error)
        root.ended(run_id.int, error)
