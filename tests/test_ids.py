"""Ids: none twice, in the order of their making."""

from __future__ import annotations

import itertools

from bursar.words.clock import UlidSource, first_id, time_of


def test_ids_are_told_apart_and_sort_in_their_order_whatever_digits_of_the_count_turn() -> None:
    """More than one pair of digits turns within one millisecond: nothing of an id may be remembered for too long."""
    source = UlidSource()
    source._count = itertools.count((1 << 20) - 3_000)
    made = [source.make() for _ in range(6_000)]
    assert len(set(made)) == 6_000
    assert made == sorted(made)
    assert {len(each) for each in made} == {26}
    assert first_id(time_of(made[0])) <= made[0]


def test_a_renewed_source_makes_other_ids() -> None:
    """As in a forked child: what was remembered of the last id has the parent's part in it."""
    source = UlidSource()
    parent = source.make()
    source.renew()
    assert source.make()[10:20] != parent[10:20]
