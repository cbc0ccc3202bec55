"""Which run an invocation of LangChain belongs to: one of its own, the one that is open, or that of the handler."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final

from bursar.callbacks.roots import Root, roots
from bursar.callbacks.tags import tags_of
from bursar.guards.budget import Budget
from bursar.runs.accounts import Account
from bursar.runs.frames import joined, make_who, run_frame
from bursar.runs.process import process
from bursar.runs.scoped import scoped_frame
from bursar.words.clock import new_id
from bursar.words.ports import Scope

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from bursar.callbacks.calls import ModelCalling
    from bursar.runs.frames import Spec
    from bursar.runs.run import Run
    from bursar.runs.scoped import ScopedFrame

_TOLD: Final = ("user", "session", "feature", "owner", "tenant")
"""Tags of a run that are taken from the metadata of an invocation."""


class Invocations:
    """What one handler opens and joins. `last_run` is the run of the last invocation."""

    def __init__(
        self,
        workflow: str | None,
        guards: Sequence[Spec],
        per: str,
        tags: dict[str, str | None],
        *,
        observe: bool | None,
    ) -> None:
        self.last_run: Run | None = None
        self._workflow, self._guards, self._per, self._tags, self._observe = workflow, guards, per, tags, observe
        self._lock = threading.Lock()
        self._shared: ScopedFrame | None = None
        self._accounts: list[tuple[Budget | None, Account]] | None = None

    def close(self) -> None:
        """End the run that all invocations share; the next one opens another."""
        with self._lock:
            frame, self._shared = self._shared, None
        if frame is not None and frame.run is not None:
            frame.run.end(None, watched=True)

    def part(
        self, run_id: UUID, parent_run_id: UUID | None, metadata: Mapping[str, Any] | None, name: str | None
    ) -> Root | None:
        """Note a part of an invocation, or open a run for a new one."""
        key, parent = run_id.int, None if parent_run_id is None else parent_run_id.int
        root = roots.get(key)
        if root is None:
            root = roots.get(parent) if parent is not None else None
            if root is None:
                return self._invoked(run_id, alone=parent is not None, metadata=metadata or {}, name=name)
            root.add(key, parent)
        if self.is_new_to(root):
            self.join(root)
        return root

    def model_part(self, run_id: UUID, parent_run_id: UUID | None, metadata: Mapping[str, Any] | None) -> Root | None:
        """As `part`, for a model call, which has no parts: alone in a run that is open it needs nothing to hold it."""
        if self._per == "scope" and (parent_run_id is None or parent_run_id.int not in roots):
            return None
        return self.part(run_id, parent_run_id, metadata, None)

    def alone(self, run_id: UUID, calling: ModelCalling) -> Root | None:
        """What holds a model call that was begun without anything, where there are guards to be added to it."""
        if not self._guards:
            return None
        root = calling.root = Root(run_id, calling.frame, None)
        root.open[root.key] = calling
        return root

    def is_new_to(self, root: Root) -> bool:
        """Whether an invocation that another handler has begun is yet without this one's guards."""
        return bool(self._guards) and id(self) not in root.members

    def join(self, root: Root) -> list[tuple[Budget | None, Account]]:
        """Let the limits of this handler apply as well, from here on."""
        added = self._added()
        root.members.add(id(self))
        root.lend(joined(scoped_frame() or root.frame, self._guards, added))
        self.last_run = root.frame.run
        return added

    def _invoked(self, run_id: UUID, *, alone: bool, metadata: Mapping[str, Any], name: str | None) -> Root | None:
        # `alone`: this handler sees a part whose parent it was not told of.
        frame, opened = scoped_frame(), None
        joins = frame is not None and frame.run is not None
        if self._per == "scope":
            return None if frame is None else Root(run_id, frame, None)
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
        root = Root(run_id, frame, opened)
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
