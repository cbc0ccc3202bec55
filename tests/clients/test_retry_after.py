from __future__ import annotations

import email.utils
from typing import Any

import anthropic
import openai
import pytest

from bursar.clients.retry_after import is_retried, wait_us
from bursar.words.seconds import LONGEST_S
from tests.clients.http import HTTP

NOW_S = 1_790_000_000.0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "3600"}, 3_600),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9),
        ({"retry-after": email.utils.formatdate(NOW_S + 90, usegmt=True)}, 90),
        ({"retry-after": "9999999999999"}, LONGEST_S),
        ({"retry-after": "inf"}, LONGEST_S),
        ({"retry-after": "1e400"}, LONGEST_S),
        ({"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT"}, LONGEST_S),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "0"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after-ms": "nan", "retry-after": "9"}, None),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, None),
        ({"retry-after": "Thu, 99 Foo 99999999999999999999 00:00:00 GMT"}, None),
        ({"retry-after": ""}, None),
        ({}, None),
    ],
)
def test_a_wait_is_read_as_the_sdks_read_it(headers: dict[str, str], seconds: float | None) -> None:
    """Milliseconds first, then seconds or a date; what is no time to come is none, what is endless is a year."""
    assert wait_us(headers, NOW_S) == (None if seconds is None else seconds * 1_000_000)


@pytest.mark.parametrize("status", [400, 401, 408, 409, 422, 429, 500, 503, 529])
@pytest.mark.parametrize("told", [None, "true", "false"])
def test_what_is_sent_again_is_what_both_sdks_send_again(status: int, told: str | None) -> None:
    """Their own rule, asked of them: the header first, else the status."""
    headers = {} if told is None else {"x-should-retry": told}
    sdks: tuple[Any, ...] = (anthropic.Anthropic, openai.OpenAI)
    for made in sdks:
        with made(api_key="x") as client:
            assert client._should_retry(HTTP.Response(status, headers=headers)) is is_retried(status, headers)
