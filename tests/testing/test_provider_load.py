import asyncio
import os
import subprocess
import sys
import time
import urllib.request

import openai
import pytest

from bursar.testing import Provider
from bursar.testing.__main__ import main
from tests.testing.provider_bench import Bench


def test_sixty_calls_are_in_flight_at_once() -> None:
    """Sixty parallel calls of 0.3 s are generated side by side, and each is billed."""

    async def all_at_once(provider: Provider) -> None:
        async with openai.AsyncOpenAI(base_url=provider.openai_url, api_key="x") as client:
            calls = (client.responses.create(model="gpt-5", input="hi") for _ in range(60))
            await asyncio.gather(*calls)

    with Provider(latency_s=0.3) as provider:
        asyncio.run(all_at_once(provider))
        assert provider.peak_in_flight == 60
        assert len(provider.charges) == 60
        assert provider.billed_nusd == 60 * (8 * 1_250 + 200 * 10_000)


def test_calls_in_turn_are_never_counted_as_parallel(bench: Bench) -> None:
    """A client that waits for each answer has one generation in flight, whatever connections it uses."""
    provider = bench.provider()
    clients = [bench.openai(provider) for _ in range(3)]
    for client in clients * 5:
        client.responses.create(model="gpt-5", input="hi")
    assert provider.peak_in_flight == 1


def test_a_body_of_twenty_megabytes_is_served(bench: Bench) -> None:
    """Large prompts are read whole and counted."""
    provider = bench.provider()
    text = "a" * 20_000_000
    client = bench.openai(provider, timeout=30)
    started = time.perf_counter()
    counted = client.responses.input_tokens.count(model="gpt-4.1", input=text)
    # Runs of letters break after seven; 3 tokens per request and 4 per item.
    assert counted.input_tokens == 20_000_000 // 7 + 1 + 7
    assert time.perf_counter() - started < 30


def test_the_command_serves_until_interrupted() -> None:
    """`python -m bursar.testing` prints both base URLs and listens there."""
    command = [sys.executable, "-m", "bursar.testing", "--latency", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ}) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline().strip() for _ in range(2)]
        try:
            urls = dict(line.split("=", 1) for line in lines)
            assert urls["OPENAI_BASE_URL"] == urls["ANTHROPIC_BASE_URL"] + "/v1"
            with pytest.raises(urllib.request.HTTPError, match="404"):
                urllib.request.urlopen(urls["ANTHROPIC_BASE_URL"], timeout=5)
        finally:
            process.terminate()


def test_the_command_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    """`--help` names the options."""
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "--latency" in capsys.readouterr().out
