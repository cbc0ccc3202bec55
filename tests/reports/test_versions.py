"""What was replaced: a planted change is named with its time and its tokens, and nothing else is."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bursar.reports.versions import KINDS, replaced, told
from bursar.words.rows import Setup

HOUR_US = 3_600_000_000


def setup(
    first: int, last: int, *, tokens: int = 1_000, calls: int = 20, workflow: str = "triage", **said: Any
) -> Setup:
    """What a workflow said between two hours, in so many calls, each the first of its run."""
    known: dict[str, Any] = {"system_hash": "s" * 16, "tools_hash": "t" * 16, "prompt_version": "v1", "release": "r1"}
    return Setup(
        workflow=workflow, calls=calls, first_us=first * HOUR_US, last_us=last * HOUR_US, first_calls=calls,
        first_tokens=calls * tokens, **(known | said),
    )  # fmt: skip


def test_a_tool_list_that_grew_is_named_with_its_time_and_tokens() -> None:
    """In the middle of the later period: from which hash to which, since when, and what a call has more since."""
    before = [setup(0, 100)]
    after = [setup(101, 150), setup(151, 200, tools_hash="u" * 16, tokens=1_310)]
    (found,) = replaced(before, after)
    assert (found.kind, found.since_us, found.before, found.after) == ("tools_hash", 151 * HOUR_US, "t" * 16, "u" * 16)
    assert found.tokens == 310
    assert told(found) == "the tool list changed (tttttttt -> uuuuuuuu), +310 tokens a call"


def test_two_blocks_that_changed_one_after_the_other_are_told_apart() -> None:
    """Each has its own tokens: those of calls that are alike in the other one."""
    after = [
        setup(101, 120, system_hash="S" * 16, tokens=1_500),
        setup(121, 200, system_hash="S" * 16, tools_hash="T" * 16, tokens=1_400),
    ]
    system, tools = replaced([setup(0, 100)], after)
    assert (system.kind, system.tokens, tools.kind, tools.tokens) == ("system_hash", 500, "tools_hash", -100)


def test_two_releases_that_ran_side_by_side_are_compared() -> None:
    """By what either has alone: there is no before in time."""
    (found,) = replaced([setup(0, 100)], [setup(0, 100, system_hash="n" * 16, tokens=900)])
    assert (found.before, found.after, found.tokens) == ("s" * 16, "n" * 16, -100)


def test_what_is_no_change_is_none() -> None:
    """A try of somebody, a workflow that is new, versions that only now have names, the same in both."""
    before = [setup(0, 100, calls=400)]
    assert not replaced(before, [setup(101, 200)])
    assert not replaced(before, [setup(101, 200, calls=400), setup(150, 151, calls=3, tools_hash="x")])
    assert not replaced(before, [setup(101, 200, workflow="new", tools_hash="x")])
    assert not replaced([setup(0, 100, release=None)], [setup(101, 200)])


def test_a_second_agent_replaces_nothing() -> None:
    """Where the old one goes on there is another one, and no difference of tokens to speak of."""
    (found,) = replaced([setup(0, 100)], [setup(101, 200), setup(120, 200, system_hash="b" * 16, tokens=9)])
    assert (found.before, found.tokens) == (None, None)
    assert told(found) == "another system prompt came (bbbbbbbb, in 50% of calls)"


def test_a_prompt_that_began_to_differ_from_call_to_call_is_said_once() -> None:
    """A time of day in the system prompt: no list of a thousand hashes, but why no cache keeps it."""
    restless = [setup(100 + hour, 100 + hour, calls=1, system_hash=f"{hour:016x}") for hour in range(50)]
    (found,) = replaced([setup(0, 99)], restless)
    assert told(found) == "the system prompt differs from call to call (50 in 50): no cache keeps it"
    assert not replaced(restless[:25], restless[25:])


@given(st.sampled_from(sorted(KINDS)), st.integers(101, 190), st.integers(10, 500), st.integers(-800, 9_000))
def test_the_planted_change_is_the_only_one(kind: str, hour: int, calls: int, more: int) -> None:
    """Whatever it is, whenever it came, however many tokens it brought or took."""
    new = setup(hour, 200, tokens=1_000 + more, calls=calls, **{kind: "planted"})
    (found,) = replaced([setup(0, 100)], [setup(101, hour, calls=calls), new])
    assert (found.kind, found.since_us, found.after, found.tokens) == (kind, hour * HOUR_US, "planted", more)
