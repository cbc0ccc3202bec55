import anthropic
import pytest

from bursar.testing import Charge, Reply, tokenizer
from bursar.testing.cache import PromptCache, Segment
from tests.testing.provider_bench import Bench

MODEL = "claude-sonnet-5-5"
LONG = "".join(tokenizer.prose(2_000, seed=3))


def _ask(client: anthropic.Anthropic, question: str, ttl: str = "5m") -> anthropic.types.Usage:
    control: anthropic.types.CacheControlEphemeralParam = {
        "type": "ephemeral",
        "ttl": "1h" if ttl == "1h" else "5m",
    }
    return client.messages.create(
        model=MODEL,
        max_tokens=10,
        system=[{"type": "text", "text": LONG, "cache_control": control}],
        messages=[{"role": "user", "content": question}],
    ).usage


def _input(charge: Charge) -> tuple[int, int, int, int]:
    return charge.input_tokens, charge.cache_read, charge.cache_write_5m, charge.cache_write_1h


def test_a_marked_prefix_is_written_once_and_then_read(bench: Bench) -> None:
    """The first call writes 2,007 tokens, the second reads them, and both bill the question as usual."""
    provider = bench.provider()
    client = bench.anthropic(provider)
    first, second = _ask(client, "Why?"), _ask(client, "How much then?")
    # The prefix is 3 per request, 4 for the system prompt and its 2,000 tokens.
    assert (first.cache_creation_input_tokens, first.cache_read_input_tokens) == (2_007, 0)
    assert (second.cache_creation_input_tokens, second.cache_read_input_tokens) == (0, 2_007)
    assert [_input(charge) for charge in provider.charges] == [(6, 0, 2_007, 0), (8, 2_007, 0, 0)]
    assert [charge.nusd for charge in provider.charges] == [
        6 * 2_000 + 2_007 * 2_500 + 10 * 10_000,
        8 * 2_000 + 2_007 * 100 + 10 * 10_000,
    ]


def test_the_longer_lifetime_costs_more_to_write(bench: Bench) -> None:
    """With ttl 1h the write is billed at the one-hour rate and reported as such."""
    provider = bench.provider()
    usage = _ask(bench.anthropic(provider), "Why?", ttl="1h")
    assert usage.cache_creation is not None
    assert (
        usage.cache_creation.ephemeral_5m_input_tokens,
        usage.cache_creation.ephemeral_1h_input_tokens,
    ) == (
        0,
        2_007,
    )
    assert provider.charges[0].nusd == 6 * 2_000 + 2_007 * 4_000 + 10 * 10_000


def test_a_short_prefix_is_not_cached(bench: Bench) -> None:
    """Below 1,024 tokens a mark changes nothing."""
    provider = bench.provider()
    client = bench.anthropic(provider)
    for _ in range(2):
        client.messages.create(
            model=MODEL,
            max_tokens=10,
            cache_control={"type": "ephemeral"},
            messages=[{"role": "user", "content": "".join(tokenizer.prose(1_000, seed=1))}],
        )
    assert [_input(charge) for charge in provider.charges] == [(1_007, 0, 0, 0)] * 2


def test_a_growing_conversation_writes_only_what_is_new(bench: Bench) -> None:
    """With the mark on the whole request, the second call reads the first prompt and writes the new turns."""
    provider = bench.provider()
    client = bench.anthropic(provider)
    turns: list[anthropic.types.MessageParam] = [{"role": "user", "content": LONG}]
    client.messages.create(model=MODEL, max_tokens=10, messages=turns, cache_control={"type": "ephemeral"})
    turns += [{"role": "assistant", "content": "Well"}, {"role": "user", "content": "And?"}]
    client.messages.create(model=MODEL, max_tokens=10, messages=turns, cache_control={"type": "ephemeral"})
    # Two turns of 4 + 1 and 4 + 2 tokens are new.
    assert [_input(charge) for charge in provider.charges] == [(0, 0, 2_007, 0), (0, 2_007, 11, 0)]


def test_five_marks_are_too_many(bench: Bench) -> None:
    """Anthropic takes four marks and refuses the fifth."""
    provider = bench.provider()
    block: anthropic.types.TextBlockParam = {
        "type": "text",
        "text": "a",
        "cache_control": {"type": "ephemeral"},
    }
    with pytest.raises(anthropic.BadRequestError, match="maximum of 4 blocks"):
        bench.anthropic(provider).messages.create(
            model=MODEL, max_tokens=10, messages=[{"role": "user", "content": [block] * 5}]
        )


def test_openai_reads_a_prefix_by_itself(bench: Bench) -> None:
    """A repeated prompt of 2,006 tokens is read in steps of 128, so 1,920 of them at half price on gpt-4o."""
    provider = bench.provider(Reply(output_tokens=10))
    client = bench.openai(provider)
    for question in ("Why?", "How much then?"):
        client.chat.completions.create(
            model="gpt-4o",
            messages=[{"role": "system", "content": LONG}, {"role": "user", "content": question}],
        )
    # 3 per request, 3 per message, 2,000, and 2 or 4 tokens of question.
    assert [_input(charge) for charge in provider.charges] == [(2_011, 0, 0, 0), (93, 1_920, 0, 0)]
    assert provider.charges[1].nusd == 93 * 2_500 + 1_920 * 1_250 + 10 * 10_000


def test_openai_does_not_read_what_differs_at_the_beginning(bench: Bench) -> None:
    """One other word at the start of the prompt leaves nothing to read."""
    provider = bench.provider()
    client = bench.openai(provider)
    for start in ("First", "Second"):
        client.responses.create(model="gpt-5", input=start + LONG)
    assert provider.charges[1].cache_read == 0


def test_models_do_not_share_prefixes(bench: Bench) -> None:
    """What gpt-4o has read is new to gpt-4.1."""
    provider = bench.provider()
    client = bench.openai(provider)
    for model in ("gpt-4o", "gpt-4.1", "gpt-4.1"):
        client.responses.create(model=model, input=LONG)
    assert [charge.cache_read for charge in provider.charges] == [0, 0, 1_920]


def test_parallel_first_calls_all_write(bench: Bench) -> None:
    """A prefix can be read only when the answer that writes it has begun, as with the real thing."""
    cache = PromptCache(inflation=1.0)
    prompt = [Segment(LONG, ttl="5m")]
    first, second = cache.read_marked("m", prompt), cache.read_marked("m", prompt)
    cache.keep(first)
    assert first.tokens == second.tokens
    assert cache.read_marked("m", prompt).tokens.cache_read == 2_000


def test_a_prefix_lives_five_minutes_from_its_last_use() -> None:
    """Reading renews the life of a prefix; after 301 s without use it is gone."""
    now = 0.0
    cache = PromptCache(inflation=1.0, clock=lambda: now)
    prompt = [Segment(LONG, ttl="5m")]
    cache.keep(cache.read_marked("m", prompt))
    for now, read in (  # noqa: B007 - the clock reads it
        (200.0, 2_000),
        (400.0, 2_000),
        (701.0, 0),
    ):
        reading = cache.read_marked("m", prompt)
        assert reading.tokens.cache_read == read
        cache.keep(reading)


def test_reset_forgets_charges_requests_and_prefixes(bench: Bench) -> None:
    """After a reset the provider is as new, numbers included."""
    provider = bench.provider()
    client = bench.anthropic(provider)
    _ask(client, "Why?")
    provider.reset()
    assert (provider.charges, provider.requests, provider.billed_nusd, provider.peak_in_flight) == (
        [],
        [],
        0,
        0,
    )
    _ask(client, "Why?")
    assert provider.charges[0].cache_read == 0
    assert provider.requests[0].number == 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_long_prompt_is_billed_at_the_long_context_rate(bench: Bench) -> None:
    """claude-sonnet-4-5 charges $6 and $22.50 per million when the prompt exceeds 200,000 tokens."""
    provider = bench.provider(Reply(output_tokens=100))
    client = bench.anthropic(provider)
    for words in (199_993, 199_994):
        text = "".join(tokenizer.prose(words, seed=5))
        client.messages.create(model="claude-sonnet-4-5", max_tokens=100, messages=[{"role": "user", "content": text}])
    assert [charge.nusd for charge in provider.charges] == [
        200_000 * 3_000 + 100 * 15_000,
        200_001 * 6_000 + 100 * 22_500,
    ]
