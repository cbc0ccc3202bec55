"""A call that a middleware has admitted, until the model that it is for begins: the handler then goes on with it."""

from __future__ import annotations

import contextvars
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bursar.callbacks.calls import ModelCalling
    from bursar.clients.guard import Guard
    from bursar.flow.call import Attempt, Call

_offer: contextvars.ContextVar[Offer | None] = contextvars.ContextVar("bursar_offer", default=None)


class Offer:
    """An admitted attempt that nobody has sent yet. `taken` is the model call that was begun with it."""

    __slots__ = ("attempt", "call", "guard", "open", "taken")

    def __init__(self, guard: Guard, call: Call, attempt: Attempt) -> None:
        self.guard, self.call, self.attempt = guard, call, attempt
        self.taken: ModelCalling | None = None
        self.open = True


def make(offer: Offer) -> contextvars.Token[Offer | None]:
    """Offer it to what is called from here."""
    return _offer.set(offer)


def withdraw(token: contextvars.Token[Offer | None]) -> None:
    """Offer it no more."""
    _offer.reset(token)


def take(model: str) -> Offer | None:
    """What was offered here for this model, once."""
    offer = _offer.get()
    if offer is None or not offer.open or offer.call.request.model != model:
        return None
    offer.open = False
    return offer
