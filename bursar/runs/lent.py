"""What a framework's adapter lends to whatever runs inside: the frame of a run, and perhaps one model call.

A framework calls back at the beginning and at the end of a thing, often in different contexts, so that no `with` can
stand round it. A loan is in a context variable and counts as long as it is open, whoever closes it, wherever; one that
is left behind in some context is passed over.

Of a model call that was lent, the adapter nearest the wire takes over: it claims the loan, once, and charges the call
by itself; who had lent it gives back what it held.
"""

from __future__ import annotations

import contextvars
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_lent: contextvars.ContextVar[Loan | None] = contextvars.ContextVar("bursar_lent", default=None)


class Loan:
    """A frame that applies while it is open, over the one that was open beneath it.

    `model` names the model of a call that may be claimed, None where a frame alone is lent; `give_way` is called when
    it is claimed.
    """

    __slots__ = ("_before", "_give_way", "beneath", "claimed", "frame", "model", "open")

    def __init__(
        self, frame: Any, beneath: Any, model: str | None = None, give_way: Callable[[], None] | None = None
    ) -> None:
        self.frame, self.beneath, self.model, self._give_way = frame, beneath, model, give_way
        self.open, self.claimed = True, False
        self._before: Loan | None = None

    def lend(self) -> Loan:
        """Put the loan before what runs in this context from here on."""
        self._before = lent()
        _lent.set(self)
        return self

    def close(self) -> None:
        """Take the loan back, from wherever."""
        self.open = False
        self.frame = self.beneath = self._give_way = None

    @property
    def before(self) -> Loan | None:
        """The loan that was open in this context when this one was made."""
        return self._before


def lent() -> Loan | None:
    """The innermost loan of this context that is open."""
    loan = _lent.get()
    while loan is not None and not loan.open:
        loan = loan._before  # noqa: SLF001 - the loan's own module
    return loan


def claim(model: str) -> Loan | None:
    """Take over a call of this model that was lent here and that nobody has taken yet."""
    loan = _lent.get()
    while loan is not None:
        if loan.open and not loan.claimed and loan.model == model:
            loan.claimed = True
            if loan._give_way is not None:  # noqa: SLF001 - the loan's own module
                loan._give_way()  # noqa: SLF001
            return loan
        loan = loan.before
    return None
