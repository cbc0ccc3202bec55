"""What every call, of a model or of a tool, does on its way in: tags that are required, limits that are shared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bursar.guards.attribution import missing
from bursar.runs.scoped import ScopedFrame, has_lost_run
from bursar.words.errors import StoreUnavailable

if TYPE_CHECKING:
    from bursar.flow.call import Operation
    from bursar.runs.process import Process


def prepare(call: Operation, frame: ScopedFrame) -> None:
    """Say what a call lacks and which shared limits it is under. Raises `StoreUnavailable`."""
    settings = frame.owner.settings
    if settings.require:
        call.required, call.missing = settings.require, missing(frame.who, settings.require)
    if frame.run is None and has_lost_run(settings.lost_context):
        call.flags += ("lost_context",)
        if settings.lost_context == "deny":
            call.missing = ("run", *call.missing)
    if frame.shares is None:
        return
    try:
        applied = frame.shares.at(frame.owner.world.clock.wall_us())
    except StoreUnavailable:
        go_without(call, frame.owner)
        return
    call.shared, call.terms, call.shares_usd = applied


def go_without(call: Operation, owner: Process) -> None:
    """Go on within the limits of the run; raises what is being handled, unless that was said to be bearable."""
    if not call.reached or not (call.frame.observe or owner.settings.on_store_error == "allow"):
        raise  # noqa: PLE0704 - only called while the error is handled
    call.reached, call.terms = False, ()
    call.flags += ("unreserved",)


def owner_of(call: Any) -> Process:
    """The process that a call belongs to."""
    owner: Process = call.frame.owner
    return owner
