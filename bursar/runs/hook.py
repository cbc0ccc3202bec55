"""Whether LangChain's callbacks reach a run without being passed: `bursar.callbacks.hook` sees to it when asked.

It is asked where a run opens. Where LangChain is not there yet, importing it is not ours to do: its import is waited
for, by a finder that stands before the others until then and finds nothing by itself.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, cast

from bursar.runs.scoped import scoped_frame

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.abc import Loader
    from importlib.machinery import ModuleSpec
    from types import ModuleType

MANAGER: Final = "langchain_core.callbacks.manager"
HOOKS: Final = "langchain_core.tracers.context"
"""The module that has LangChain's list of hooks; nothing is called back before it is there."""
_HOME: Final = "bursar.callbacks.hook"


class _Late:
    """The hook that is registered while LangChain is being imported: what it stands for is loaded at the first call."""

    def __init__(self) -> None:
        self.attached = False
        self._lock = threading.Lock()
        self._finder: _Finder | None = None

    def get(self) -> Any:
        """As `bursar.callbacks.hook` has it: the handler where a run is open, else None."""
        return None if scoped_frame() is None else import_module(_HOME).HANDLER

    def wait(self) -> None:
        """Have it registered as soon as LangChain can be told."""
        with self._lock:
            if self._finder is None:
                self._finder = _Finder()
                sys.meta_path.insert(0, self._finder)

    def register(self, hooks: ModuleType) -> None:
        """Register it with LangChain, once. What goes wrong is seen at the end of the run: the import goes on."""
        with self._lock, contextlib.suppress(Exception):
            sys.meta_path[:] = [finder for finder in sys.meta_path if finder is not self._finder]
            if not self.attached:
                hooks.register_configure_hook(self, inheritable=True)
                self.attached = True


class _Finder:
    """Sees one module pass, whoever finds it."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != HOOKS:
            return None
        for finder in sys.meta_path:
            find = None if finder is self else getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = None if find is None else find(name, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = cast("Loader", _Loader(spec.loader))
                return spec
        return None


class _Loader:
    """Loads as another does, and tells `late` when that is done. The module itself never sees it."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        made: ModuleType | None = self._inner.create_module(spec)
        return made

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self._inner
        module.__loader__ = self._inner
        self._inner.exec_module(module)
        late.register(module)


late: Final = _Late()
"""The hook of a process in which a run was open before LangChain was there."""


def attach() -> None:
    """Register the hook, once in a process, if LangChain is there; else as soon as it is."""
    if _HOME in sys.modules or late.attached:
        return
    if MANAGER in sys.modules or HOOKS in sys.modules:
        # By name: that room stands on this one.
        import_module(_HOME)
    else:
        late.wait()


def is_missing() -> bool:
    """Whether LangChain calls back and the hook is not there: it came in a way that passed the finder by."""
    return HOOKS in sys.modules and _HOME not in sys.modules and not late.attached
