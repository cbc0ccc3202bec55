"""The context window purely: when a cut is due, where it falls, what it costs; on numbers one can add up by hand."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bursar import BursarWarning, ConfigError
from bursar.guards.cuts import NOTE_TOKENS, Cut, fixed_cut, spell_out
from bursar.guards.history import History, Item, Turn
from bursar.guards.window import ContextWindow
from bursar.guards.window_state import Trim, WindowState


def step(n: int, tokens: int = 100, *, calls: int = 1, pinned: bool = False) -> list[Item]:
    """A call and its results: `tokens` each, of which a result gives back all but ten."""
    ids = tuple(f"c{n}.{k}" for k in range(calls))
    asked = Item(f"a{n}", "assistant", tokens, calls=ids, pinned=pinned)
    return [
        asked,
        *(Item(f"t{n}.{k}", "tool", tokens, results=(id_,), clearable=tokens - 10) for k, id_ in enumerate(ids)),
    ]


def agent(steps: int, tokens: int = 100) -> History:
    history = History([Item("u", "user", 100)])
    for n in range(steps):
        for item in step(n, tokens):
            history.append(item)
    return history


def cut(history: History, window: ContextWindow, state: WindowState | None = None, **options: Any) -> Trim | None:
    state = state or WindowState(length=1)
    return state.advance(history, window, window.trigger(None) or 0, options.pop("fixed", 0), **options)


def test_nothing_is_touched_below_the_trigger() -> None:
    """A request of exactly the trigger is sent as it is; one token more is cut."""
    history = agent(4)
    assert cut(history, ContextWindow(tokens=900)) is None
    assert cut(history, ContextWindow(tokens=899)) is not None


def test_the_trigger_is_the_least_of_three() -> None:
    """Three quarters of the model's window, two per cent under a dearer tier, or what the user says."""
    window = ContextWindow()
    assert window.trigger(None) is None
    assert window.trigger(200_000) == 150_000
    assert window.trigger(1_000_000, [100_000, 272_000]) == 98_000
    assert ContextWindow(tokens=60_000).trigger(200_000, [100_000]) == 60_000


def test_results_are_cleared_before_turns_are_dropped() -> None:
    """Twenty steps of 200: clearing all results but three frees 1,530 of 4,100, and half of 4,000 needs 67 more."""
    history, state = agent(20), WindowState(length=1)
    made = cut(history, ContextWindow(tokens=4_000), state)
    gaps = state.gaps(history)
    assert made is not None
    # The note's tokens come on top of what is left when something was dropped.
    assert (made.before, made.results, made.messages) == (4_100, 17 - gaps.messages // 2, gaps.messages)
    assert made.after == 4_100 - gaps.tokens + NOTE_TOKENS
    assert made.after - NOTE_TOKENS <= 2_000 < made.after - NOTE_TOKENS + 110
    assert made.forgotten == {f"c{n}.0" for n in range(17)}


def test_clearing_alone_is_enough_where_results_are_most() -> None:
    """Results of 1,000 beside calls of 10: no turn is dropped, and the prefix up to the first result stays."""
    history = History([Item("u", "user", 100)])
    for n in range(10):
        history.append(Item(f"a{n}", "assistant", 10, calls=(f"c{n}",)))
        history.append(Item(f"t{n}", "tool", 1_000, results=(f"c{n}",), clearable=980))
    state = WindowState(length=1)
    made = cut(history, ContextWindow(tokens=10_000), state)
    assert made is not None
    assert (made.messages, made.results, made.dropped) == (0, 7, 7 * 980)
    # Behind the first cleared result: seven of 20, three of 1,000, nine calls.
    assert made.tail == 7 * 20 + 3_000 + 9 * 10
    assert state.gaps(history).cut == Cut(1, 16, -1)


def test_the_results_of_the_last_turn_are_never_cleared() -> None:
    """Three calls at once and keep_results=1: all three are kept."""
    history = agent(3)
    for item in step(3, calls=3):
        history.append(item)
    state = WindowState(length=1)
    cut(history, ContextWindow(tokens=800, keep_results=1), state)
    assert not {"c3.0", "c3.1", "c3.2"} & state.gaps(history).results
    assert {"c0.0", "c1.0", "c2.0"} <= state.gaps(history).results


def test_a_cut_stays_until_the_next_one_is_due() -> None:
    """Forty steps under 3,000 tokens: what is left out changes only when a cut is reported, three times."""
    window, state, history = (
        ContextWindow(tokens=3_000, strategy="drop"),
        WindowState(),
        History([Item("u", "user", 100)]),
    )
    before, made = state.gaps(history), 0
    for n in range(40):
        cut_now = cut(history, window, state)
        made += cut_now is not None
        after = state.gaps(history)
        assert (after == before) == (cut_now is None)
        assert 100 + history.tokens(1) - after.tokens <= 3_000
        before = after
        for item in step(n):
            history.append(item)
    # At step 15 down to 1,500, after eight more (the note counts) to 1,348, after nine more once again.
    assert made == 3


def test_no_cut_inside_a_turn_and_none_between_a_call_and_a_late_result() -> None:
    """Turns begin with the user or with an answer after results; a result that comes late joins what is between."""
    plain = History(
        [Item("s", "system", 1), Item("u", "user", 1), *step(0, calls=2), *step(1), Item("v", "user", 1), *step(2)]
    )
    assert plain.turns() == [Turn(2, 5, False), Turn(5, 7, False), Turn(7, 10, False)]
    late = History([
        Item("u", "user", 1), Item("a", "assistant", 1, calls=("x", "y")), Item("t", "tool", 1, results=("x",)), *step(1),
        Item("w", "tool", 1, results=("y",)), *step(2),
    ])  # fmt: skip
    assert late.turns() == [Turn(1, 6, False), Turn(6, 8, False)]
    early = History(
        [Item("a", "assistant", 1, calls=("x",)), Item("u", "user", 1), Item("t", "tool", 1, results=("x",)), *step(1)]
    )
    assert early.turns()[0] == Turn(2, 3, True), "the call is in the head, so its result stays"


def test_pinned_turns_and_what_the_system_says_stay() -> None:
    """A pinned call keeps its results; a word of the system in the middle stays by itself."""
    history = History(
        [Item("u", "user", 100), *step(0), *step(1, pinned=True), Item("s", "system", 50), *step(2), *step(3), *step(4)]
    )
    state = WindowState(length=1)
    cut(history, ContextWindow(tokens=700, strategy="drop"), state)
    gaps = state.gaps(history)
    assert [history.items[i].id for i in gaps.kept] == ["a1", "t1.0", "s"]
    assert "c1.0" not in gaps.results


def test_the_latest_message_of_the_user_stays_until_another_one_is_the_latest() -> None:
    """It stands alone before the cut; when the user has spoken again, the next cut takes it."""
    history = History(
        [Item("u", "user", 100), *step(0), Item("v", "user", 100), *[i for n in range(1, 9) for i in step(n)]]
    )
    window, state = ContextWindow(tokens=1_500, strategy="drop"), WindowState(length=1)
    cut(history, window, state)
    assert [history.items[i].id for i in state.gaps(history).kept] == ["v"]
    history.append(Item("w", "user", 100))
    assert cut(history, window, state) is None
    assert [history.items[i].id for i in state.gaps(history).kept] == ["v"], "nothing changes between cuts"
    for n in range(9, 14):
        for item in step(n):
            history.append(item)
    assert cut(history, window, state) is not None
    assert "v" not in [history.items[i].id for i in state.gaps(history).kept]


def test_a_cut_that_is_due_soon_is_made_on_a_cold_request() -> None:
    """After a pause longer than the cache lives the prefix is written anyway: cut if the next step would need it."""
    window, minute = ContextWindow(tokens=1_200, strategy="drop"), 60_000_000
    for pause, cold in ((4 * minute, False), (6 * minute, True)):
        state, history = WindowState(), agent(4)
        cut(history, window, state, now_us=0)
        for item in step(4):
            history.append(item)
        made = cut(history, window, state, now_us=pause)
        # 1,100 of 1,200 tokens, and a step is 200.
        assert (made is not None) == cold
        assert made is None or (made.cold and made.break_even(30, 375) == 0)


def test_cuts_that_are_used_up_at_once_come_to_an_end() -> None:
    """Each step fills half the window: after the third cut in a row within three steps no more is made."""
    window, state, history = (
        ContextWindow(tokens=1_000, strategy="drop"),
        WindowState(),
        History([Item("u", "user", 100)]),
    )
    made = 0
    for n in range(20):
        made += cut(history, window, state) is not None
        for item in step(n, 200):
            history.append(item)
    assert made == 3
    assert state.thrashing
    assert state.gaps(history).messages > 0, "what was cut stays cut"


def test_a_lost_memory_finds_the_cut_of_the_grid() -> None:
    """A conversation that is long when first seen is cut where everybody would cut it."""
    window, history = ContextWindow(tokens=3_000, strategy="drop"), agent(60)
    one, other = WindowState(), WindowState()
    cut(history, window, one)
    for item in step(60):
        history.append(item)
    cut(history, window, other)
    assert one.gaps(history).cut == other.gaps(history).cut == fixed_cut(history, window, 3_000, 0)


def test_another_conversation_is_not_cut_by_the_memory_of_the_first() -> None:
    """The message at the cut is not there: what was remembered is forgotten, and nothing is left out."""
    window, state = ContextWindow(tokens=3_000, strategy="drop"), WindowState()
    assert cut(agent(60), window, state) is not None
    other = History([Item("x", "user", 100)])
    assert cut(other, window, state) is None
    assert state.gaps(other).tokens == 0
    assert state.messages == 0


def test_the_memory_survives_json_and_is_small() -> None:
    """Plain data of the same size after a thousand steps, and the same cut after JSON."""
    window, state, history = ContextWindow(tokens=3_000), WindowState(), History([Item("u", "user", 100)])
    for n in range(1_000):
        cut(history, window, state)
        for item in step(n):
            history.append(item)
    text = json.dumps(state.dump())
    assert len(text) < 500
    assert WindowState.load(json.loads(text)).gaps(history) == state.gaps(history)


def test_estimates_follow_what_the_provider_counted() -> None:
    """Twice as many tokens as estimated: the cut comes at half the estimate, and its numbers are the provider's."""
    history, state = agent(7), WindowState(length=1)
    state.observe(1_000, 2_000)
    made = cut(history, ContextWindow(tokens=2_999, strategy="drop"), state)
    assert made is not None
    assert made.before == 3_000
    assert made.after <= 1_500 + 2 * NOTE_TOKENS


def test_a_long_system_prompt_leaves_room_for_the_conversation() -> None:
    """Eight tenths of the window are the system's: a cut leaves a quarter of the rest, not nothing."""
    history, state = agent(9), WindowState(length=1)
    made = cut(history, ContextWindow(tokens=5_000, strategy="drop"), state, fixed=4_000)
    assert made is not None
    # 100 for the first message, 900 to share: a step of 200 stays.
    assert made.after - NOTE_TOKENS == 4_300


def test_what_a_cut_costs_and_when_it_has_paid() -> None:
    """Sonnet 4.6, 49,000 dropped and 40,000 written anew: $0.15, and (3.75 - 0.30) / 0.30 * 40 / 49 is ten steps."""
    made = Trim(100_000, 51_000, 10, 0, 40_000, 100_000, frozenset())
    assert made.dropped == 49_000
    assert made.rewrite_nusd(3_750_000) == 150_000_000
    assert made.break_even(300_000, 3_750_000) == 10
    assert made.break_even(300_000, 300_000) == 0
    assert made.break_even(0, 300_000) is None


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"tokens": 0}, "tokens"),
        ({"strategy": "sliding"}, "sliding"),
        ({"keep": "100%"}, "100%"),
        ({"keep": "50"}, "50"),
        ({"keep_results": 0}, "keep_results"),
        ({"strategy": "summarise"}, "summarise"),
        ({"summarise": "same"}, "same"),
        ({"cache_life": float("nan")}, "nan"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_value(options: dict[str, Any], word: str) -> None:
    """A named error, with the value in it."""
    with pytest.raises(ConfigError, match=word):
        ContextWindow(**options)


@pytest.mark.parametrize("options", [{"pin": "system"}, {"strategy": "summarise", "summarise": 3}, {"tokens": 1.5}])
def test_what_has_the_wrong_type_is_refused(options: dict[str, Any]) -> None:
    """A function that is none, a number that is not whole."""
    with pytest.raises(TypeError):
        ContextWindow(**options)


def test_sliding_is_possible_and_says_what_it_costs() -> None:
    """The warning has the measured factor; what is dropped is no more than has to be."""
    with pytest.warns(BursarWarning, match=r"1\.2 to 2\.1 times"):
        window = ContextWindow(tokens=1_000, strategy="slide")
    history, state = agent(5), WindowState(length=1)
    made = cut(history, window, state)
    assert made is not None
    assert made.messages == 2


@settings(max_examples=200, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 400), st.integers(1, 900), st.sampled_from(["tool", "user"])), max_size=40),
    tokens=st.integers(500, 4_000),
    strategy=st.sampled_from(["ladder", "drop", "clear_results"]),
)
def test_a_cut_of_the_grid_depends_on_the_past_alone(
    sizes: list[tuple[int, int, str]], tokens: int, strategy: str
) -> None:
    """Growing message by message, the cut of the grid moves only when the history has grown by another step."""
    window, history = ContextWindow(tokens=tokens, strategy=strategy), History([Item("u", "user", 50)])
    seen: dict[int, Cut] = {}
    for n, (asked, answered, role) in enumerate(sizes):
        history.append(Item(f"a{n}", "assistant", asked, calls=(f"c{n}",) if role == "tool" else ()))
        results = (f"c{n}",) if role == "tool" else ()
        history.append(Item(f"t{n}", role, answered, results=results, clearable=answered // 2 if results else 0))
        made = fixed_cut(history, window, tokens, 0)
        steps = -(-(history.tokens() - tokens) // (tokens // 2 + tokens % 2)) if history.tokens() > tokens else 0
        assert seen.setdefault(steps, made) == made
        assert spell_out(history, made).messages < len(history)
