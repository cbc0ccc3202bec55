"""The context window: what of a long conversation is left out, so that it fits and the provider's cache stays warm.

Theory of operation. A provider that caches prefixes reads what it has seen at a tenth of the price or less, so what is
dear is not a long conversation but one whose beginning changes. Therefore nothing is touched until the request would
outgrow its trigger; then so much is left out at once that nothing has to be touched for long. Between two cuts each
request is the last one and something added, byte for byte.

A cut stays: it is remembered (`WindowState`), or where nothing can be remembered it is found again in the whole
history, at fixed steps of its length (`cuts.fixed_cut`). Here is what a user declares; `cuts` finds a cut,
`window_state` decides when.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bursar.guards.options import parse_share
from bursar.words.errors import BursarWarning, ConfigError
from bursar.words.money import parse_count
from bursar.words.seconds import parse_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from decimal import Decimal

STRATEGIES: Final = ("ladder", "drop", "clear_results", "summarise", "slide")
WINDOW_SHARE: Final = 0.75
"""Of a model's window that a request may fill: the rest is for the answer and for what the estimate missed."""
TIER_SHARE: Final = 0.98
"""How far below a dearer price tier the trigger lies: what an estimate that the provider corrects is off by."""
_SLIDING: Final = (
    "ContextWindow(strategy='slide') drops the oldest turn at nearly every call once the window is full, so the cached "
    "prefix is written anew each time: recorded runs that outgrew 16k tokens cost {low} to {high} times what they cost "
    "untrimmed, and 2.1 to 2.8 times what the default costs. strategy='ladder' keeps the same window."
)


@dataclass(frozen=True, slots=True)
class ContextWindow:
    """How long a request may become, and what is left out of one that would be longer.

    Nothing is until the request exceeds the least of these: `tokens`, three quarters of the model's window, just under
    the model's next price tier. What is left out then depends on `strategy`:

    "ladder"         results of tools but the last `keep_results` are cleared; if that is not enough, whole oldest turns
                     are dropped until `keep` of the trigger is left
    "drop"           whole oldest turns only
    "clear_results"  results only; where the rest alone is too long, the window is not held, and that is recorded
    "summarise"      as "drop", and a summary stands for what was dropped; it is made by `summarise`
    "slide"          just as many oldest turns as do not fit; dear where the provider caches, hence a warning

    What the system says, the first and the latest message of the user, the last turn and what is pinned stay. Calls of
    tools and their results go together. Turns that stay are not touched, so thinking and signatures stay valid.

    `summarise` is a function (also an async one, with async clients) that is given the messages to sum up and returns
    a text, or the name of a model, or "same": the model of the call at hand, asked on its own cached prefix. What it
    costs is spent of the run's budget. `pin` is a function of one message as the SDK takes it. `keep` is a share,
    "50%". `cache_life` is for how many seconds the provider keeps an unused prefix: after a longer pause a cut that is
    due soon is made at once, since the prefix has to be written anyway.

    Raises `ConfigError` with the value for what contradicts itself, `TypeError` for a wrong type.
    """

    tokens: int | None = None
    strategy: str = "ladder"
    keep: str = "50%"
    keep_results: int = 3
    summarise: Callable[[list[object]], object] | str | None = None
    pin: Callable[[object], object] | None = None
    cache_life: float = 300.0

    def __post_init__(self) -> None:
        if self.tokens is not None:
            parse_count(self.tokens, "tokens")
        if self.strategy not in STRATEGIES:
            raise ConfigError(f"strategy={self.strategy!r} is none of {', '.join(STRATEGIES)}")
        if (self.strategy == "summarise") != (self.summarise is not None):
            raise ConfigError(
                f"strategy={self.strategy!r} with summarise={self.summarise!r}: strategy='summarise' needs a function, "
                "a model or 'same', and nothing else uses it"
            )
        given: object = self.summarise
        if given is not None and not callable(given) and not (isinstance(given, str) and given.strip()):
            raise TypeError(f"summarise={given!r} is neither a function of messages nor the name of a model")
        pin: object = self.pin
        if pin is not None and not callable(pin):
            raise TypeError(f"pin={pin!r} is a function of one message")
        results: object = self.keep_results
        if not isinstance(results, int) or isinstance(results, bool) or results < 1:
            raise ConfigError(f"keep_results={results!r} is a whole number of results, at least 1")
        self.life_us()
        if not self.share() < 1:
            raise ConfigError(f"keep={self.keep!r}: if all is kept nothing is left out; name less than 100%")
        if self.strategy == "slide":
            warnings.warn(_SLIDING.format(low="1.2", high="2.1"), BursarWarning, stacklevel=3)

    def life_us(self) -> int:
        """How long the provider keeps an unused prefix, in microseconds."""
        return parse_seconds(self.cache_life, "cache_life")

    def share(self) -> Decimal:
        """The share of the trigger that a cut leaves."""
        return parse_share(self.keep, "keep")

    def trigger(self, model_window: int | None, tiers: Iterable[int] = ()) -> int | None:
        """The tokens of a request above which something is left out; None where nothing says how long it may be.

        `tiers` are the input tokens above which the model has another, dearer price.
        """
        limits = [int(tier * TIER_SHARE) for tier in tiers]
        if model_window is not None:
            limits.append(int(model_window * WINDOW_SHARE))
        if self.tokens is not None:
            limits.append(self.tokens)
        return min(limits, default=None)
