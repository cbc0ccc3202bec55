"""The memory of the loop guard: bounded, lossless through JSON, the same verdicts whatever the order of keys."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from bursar.guards import loop_state
from bursar.guards.calls import call_key, fact
from bursar.guards.loop_judge import admit, observe, user_spoke
from bursar.guards.loop_state import LoopState, Spent
from bursar.guards.loops import LoopGuard

STEPS = st.lists(
    st.one_of(
        st.just(None),
        st.lists(
            st.tuples(
                st.sampled_from(["look", "shell"]),
                st.sampled_from(["1", '{"a": 1}', '{"command": "cd x"}', '{"command": "ls"}']),
                st.sampled_from(["", "nothing", "Error: no", "7 lines", "8 lines", "503 Service Unavailable"]),
                st.integers(0, 40),
            ),
            min_size=1,
            max_size=3,
        ),
    ),
    max_size=40,
)


def run(steps: list[list[tuple[str, str, str, int]] | None], *, through_json: bool) -> tuple[list[object], LoopState]:
    guard, state, verdicts, now = LoopGuard(), LoopState(), list[object](), 0
    for number, step in enumerate(steps):
        if through_json:
            state = LoopState.load(json.loads(json.dumps(state.dump())))
        spent = Spent(100 * number, None, 2_000)
        if step is None:
            user_spoke(state)
            continue
        now += 1_000_000 * step[0][3]
        verdicts += [admit(guard, state, tool, call_key(tool, given)[0], spent, now) for tool, given, _, _ in step]
        facts = [fact(tool, given, result) for tool, given, result, _ in step]
        verdicts.append(observe(guard, state, facts, spent, now))
    return verdicts, state


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_through_json_nothing_changes(steps: list[list[tuple[str, str, str, int]] | None]) -> None:
    """A state that is written and read between any two steps gives the same verdicts and ends the same."""
    assert run(steps, through_json=True) == run(steps, through_json=False)


def test_the_memory_is_bounded() -> None:
    """Ten thousand different calls: the newest 4,096 are remembered, and all of it is less than two megabytes."""
    guard, state = LoopGuard(), LoopState()
    for n in range(10_000):
        observe(guard, state, [fact(f"tool{n % 200}", {"n": "x" * (n % 7) + str(n)}, f"Error: {n}")], Spent())
        state.move(f"tool{n % 200}", "deeper/and/deeper")
    assert len(state.seen) == loop_state.MOST_ENTRIES
    assert len(state.failures) <= loop_state.MOST_FAILURES
    assert len(json.dumps(state.dump())) < 2_000_000
    assert observe(guard, state, [fact("tool0", {"n": "0"}, "Error: 0")], Spent()) is None
    last = fact("tool199", {"n": "x" * (9_999 % 7) + "9999"}, "Error: 9999")
    found = observe(guard, state, [last._replace(call=state.place("tool199", last.call))], Spent())
    assert found is None or found.streak == 1


def test_the_newest_is_kept_longest() -> None:
    """A call that is made again counts as new: what goes is what was not seen for longest."""
    guard, state = LoopGuard(), LoopState()
    first = fact("look", {"n": -1}, "old")
    for n in range(loop_state.MOST_ENTRIES + 100):
        if n % 1_000 == 0:
            observe(guard, state, [first], Spent())
        observe(guard, state, [fact("look", {"n": n}, "new")], Spent())
    assert first.call in state.seen
