"""The same tokens otherwise: how a share of cache is laid into a usage, and sums."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as some

from bursar.reports.whatif import Change, cached, lines, unknowns
from bursar.words.events import Usage
from bursar.words.rows import Used

COUNT = some.integers(0, 10_000)


@given(COUNT, COUNT, COUNT, some.floats(0, 1))
def test_a_share_of_the_cache_keeps_the_input(fresh: int, five: int, hour: int, share: float) -> None:
    """Reads are the share, writes never more than what is left nor than they were; the rest of the usage stays."""
    usage = Usage(fresh + five + hour, 7, 0, cache_write_5m_tokens=five, cache_write_1h_tokens=hour)
    found = cached(usage, share)
    assert found.input_tokens == usage.input_tokens
    assert found.cache_read_tokens == round(share * usage.input_tokens)
    assert found.cache_read_tokens + found.cache_write_tokens <= found.input_tokens
    assert found.cache_write_5m_tokens <= five
    assert found.cache_write_1h_tokens <= hour
    assert found.output_tokens == 7
    assert cached(usage, None) == usage


def test_what_has_no_price_is_left_out_on_both_sides() -> None:
    """It is counted, and said; a change is not the difference between something and nothing."""

    def used(workflow: str, nusd: int | None, promise: str | None = None) -> Used:
        return Used(workflow, "openai", "gpt-4o", None, None, None, promise, 1, nusd, Usage(1))

    found, total = lines(
        [(used("a", 10), 4), (used("a", None), 4), (used("b", 10, "offline"), None), (used("b", 1, "offline"), 9)]
    )
    assert [
        (line.workflow, line.calls, line.was_nusd, line.would_nusd, line.unpriced, line.waited_for) for line in found
    ] == [
        ("b", 2, 1, 9, 1, 0),
        ("a", 2, 10, 4, 1, 1),
    ]
    assert (total.calls, total.nusd, total.unpriced) == (4, 2, 2)
    said = unknowns(Change(model="m", tier="batch", cached=0.5), total)
    assert len(said) == 4
    assert "1 of 4 calls are not promised offline" in said[1]
    assert "2 calls have no price" in said[3]
    assert unknowns(Change(), lines([])[1]) == []
