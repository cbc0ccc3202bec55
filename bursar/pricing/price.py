"""The price of an attempt: plain integers, one rounding.

Rates are pico-dollars a token, a price is nano-dollars; the sum of all parts is rounded up once, and the residue
of that rounding lies in the largest part, so that the parts add up to the price.
"""

from __future__ import annotations

from functools import lru_cache
from operator import mul
from typing import TYPE_CHECKING, Final, NamedTuple

from bursar.pricing.rates import Rates
from bursar.words.events import CostStatus, Usage, filled
from bursar.words.money import PICO_PER_NANO, nano_from_pico

if TYPE_CHECKING:
    from bursar.pricing.rates import RateCard


class Cost(NamedTuple):
    """Nano-dollars in all and by kind of token; `nusd` None is unknown, and then every part is 0."""

    nusd: int | None
    status: CostStatus
    input_nusd: int = 0
    output_nusd: int = 0
    cache_read_nusd: int = 0
    cache_write_nusd: int = 0
    fees_nusd: int = 0


UNKNOWN: Final = Cost(None, CostStatus.UNKNOWN)
_FIRST_EXTRA: Final = Usage._fields.index("web_searches")
_WRITES: Final = Usage._fields.index("cache_write_5m_tokens")
_SUBSETS: Final = Usage._fields.index("reasoning_tokens")
"""Before it: input, output, cache reads, and the four kinds of cache write."""
_WRITE_RATES: Final = Rates._fields.index("cache_write_5m")
"""The rates of cache writes stand in the order of a usage."""
_NO_WRITES: Final = Usage()[_WRITES:_SUBSETS]
_NO_EXTRAS: Final = Usage()[_FIRST_EXTRA:]
_LIST_PRICE: Final = CostStatus.LIST_PRICE
_UPPER_BOUND: Final = CostStatus.UPPER_BOUND
_WEAKNESS: Final = (
    CostStatus.LIST_PRICE, CostStatus.PROVIDER, CostStatus.UPPER_BOUND, CostStatus.ESTIMATED, CostStatus.LOWER_BOUND,
    CostStatus.UNKNOWN,
)  # fmt: skip


def price(usage: Usage, card: RateCard | None, *, measured: bool = True) -> Cost:
    """Price the usage of one attempt at the tier that its input reaches; `measured` False marks an estimate."""
    if card is None:
        return UNKNOWN
    input_tokens, output_tokens, cached = usage[:_WRITES]
    rates = card.at(input_tokens) if card.tiers else card.base
    status = card.status if measured else CostStatus.ESTIMATED
    uncached, written, fees = input_tokens - cached, 0, 0
    writes = usage[_WRITES:_SUBSETS]
    if writes != _NO_WRITES:
        uncached -= sum(writes)
        written = sum(map(mul, writes, rates[_WRITE_RATES : _WRITE_RATES + len(writes)]))
    if uncached < 0:
        # Parts that exceed their whole: every part is priced, nothing is subtracted.
        uncached, status = 0, weaker(status, CostStatus.UPPER_BOUND)
    into, out, read = uncached * rates.input, output_tokens * rates.output, cached * rates.cache_read
    if usage[_FIRST_EXTRA:] != _NO_EXTRAS:
        into, out, read, fees, status = _extras(usage, card, rates, (into, out, read, status))
    if card.assumed and status is _LIST_PRICE and _uses(usage, card.assumed):
        status = _UPPER_BOUND
    return _rounded(status, into, out, read, written, fees)


def _rounded(status: CostStatus, into: int, out: int, read: int, written: int, fees: int) -> Cost:
    """The cost of parts in pico-dollars."""
    total = nano_from_pico(into + out + read + written + fees)
    into, out = into // PICO_PER_NANO, out // PICO_PER_NANO
    if read or written or fees:
        read, written, fees = read // PICO_PER_NANO, written // PICO_PER_NANO, fees // PICO_PER_NANO
    residue = total - into - out - read - written - fees
    if residue:
        into, out, read, written, fees = _with_residue((into, out, read, written, fees), residue)
    return filled(Cost, (total, status, into, out, read, written, fees))


def add(first: Cost, second: Cost) -> Cost:
    """Two costs as one: unknown where either is, and as sure as the less sure of them."""
    if first.nusd is None or second.nusd is None:
        return UNKNOWN
    status = weaker(first.status, second.status)
    return Cost(first.nusd + second.nusd, status, *map(sum, zip(first[2:], second[2:], strict=True)))


def as_stated(cost: Cost, nusd: int, *, free: bool) -> tuple[Cost, tuple[str, ...]]:
    """The amount that a seller names, divided among the kinds of token as his list divides it; and flags.

    Nothing is believed only of what its list or its name (`free`) says costs nothing.
    """
    if nusd == 0 and cost.nusd != 0 and not (free and cost.nusd is None):
        bounded = cost._replace(status=weaker(cost.status, CostStatus.UPPER_BOUND))
        return cost if cost.nusd is None else bounded, ("stated_nothing",)
    if not cost.nusd:
        return Cost(nusd, CostStatus.PROVIDER, nusd), ()
    parts = tuple(nusd * part // cost.nusd for part in cost[2:])
    return Cost(nusd, CostStatus.PROVIDER, *_with_residue(parts, nusd - sum(parts))), ()


def weaker(first: CostStatus, second: CostStatus) -> CostStatus:
    """Of two statuses the one that promises less."""
    return max(first, second, key=_WEAKNESS.index)


def _extras(
    usage: Usage, card: RateCard, rates: Rates, parts: tuple[int, int, int, CostStatus]
) -> tuple[int, int, int, int, CostStatus]:
    """Audio at its own rates, and what the provider's own tools cost."""
    into, out, read, status = parts
    heard = min(usage.audio_input_tokens, usage.input_tokens)
    spoken = min(usage.audio_output_tokens, usage.output_tokens)
    if heard:
        # Nobody says which of the cached tokens are audio: text first, whose cache saves less.
        cached = min(heard, max(0, usage.cache_read_tokens + heard - usage.input_tokens))
        into += (heard - cached) * (rates.audio_input - rates.input)
        read += cached * (rates.audio_cache_read - rates.cache_read)
        if usage.cache_read_tokens:
            status = weaker(status, CostStatus.UPPER_BOUND)
    out += spoken * (rates.audio_output - rates.output)
    fees = 0
    for count, fee in ((usage.web_searches, card.web_search_nusd), (usage.file_searches, card.file_search_nusd)):
        if fee is not None:
            fees += count * fee * PICO_PER_NANO
        elif count:
            status = CostStatus.LOWER_BOUND
    # Containers are billed by their hours and pictures by their size, which no answer says; a fetch costs its tokens.
    if usage.code_executions or usage.image_generations:
        status = CostStatus.LOWER_BOUND
    if card.missing and _uses(usage, card.missing):
        status = CostStatus.LOWER_BOUND
    return max(0, into), out, read, fees, status


def _with_residue(parts: tuple[int, ...], residue: int) -> list[int]:
    whole = list(parts)
    whole[whole.index(max(whole))] += residue
    return whole


def _uses(usage: Usage, kinds: tuple[str, ...]) -> bool:
    for column in _columns(kinds):  # noqa: SIM110 - `any` takes twice as long, once for each call
        if usage[column]:
            return True
    return False


@lru_cache(maxsize=256)
def _columns(kinds: tuple[str, ...]) -> tuple[int, ...]:
    return tuple(Usage._fields.index(f"{kind}_tokens") for kind in kinds)
