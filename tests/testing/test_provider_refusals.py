import http.client
import json
import socket

import anthropic
import openai
import pytest

from bursar.testing import Provider, ReceivedRequest, Reply, scripted
from tests.testing.provider_bench import Bench

HI = [{"role": "user", "content": "hi"}]


def _post(provider: Provider, path: str, body: bytes, key: str = "x") -> tuple[int, dict[str, object]]:
    port = int(provider.anthropic_url.rpartition(":")[2])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    headers = {"content-type": "application/json", "authorization": key}
    connection.request("POST", path, body, headers)
    response = connection.getresponse()
    parsed: dict[str, object] = json.loads(response.read())
    connection.close()
    return response.status, parsed


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (400, anthropic.BadRequestError, "invalid_request_error"),
        (401, anthropic.AuthenticationError, "authentication_error"),
        (404, anthropic.NotFoundError, "not_found_error"),
        (429, anthropic.RateLimitError, "rate_limit_error"),
        (500, anthropic.InternalServerError, "api_error"),
        (503, anthropic.InternalServerError, "api_error"),
        (529, anthropic.InternalServerError, "overloaded_error"),
    ],
)
def test_anthropic_errors_are_the_real_ones(
    bench: Bench, status: int, error: type[anthropic.APIStatusError], kind: str
) -> None:
    """A scripted status arrives as the SDK's own exception with the vendor's type, and is not billed."""
    provider = bench.provider(Reply(status=status))
    with pytest.raises(error) as caught:
        bench.anthropic(provider).messages.create(
            model="claude-sonnet-5-5", max_tokens=5, messages=[{"role": "user", "content": "hi"}]
        )
    assert caught.value.status_code == status
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["error"]["type"] == kind
    assert caught.value.request_id == caught.value.body["request_id"]
    assert provider.charges == []
    assert len(provider.requests) == 1


@pytest.mark.parametrize(
    ("status", "error", "code"),
    [
        (400, openai.BadRequestError, None),
        (429, openai.RateLimitError, "rate_limit_exceeded"),
        (500, openai.InternalServerError, None),
        (503, openai.InternalServerError, None),
    ],
)
def test_openai_errors_are_the_real_ones(
    bench: Bench, status: int, error: type[openai.APIStatusError], code: str | None
) -> None:
    """A scripted status arrives as the SDK's own exception with the vendor's code, and is not billed."""
    provider = bench.provider(Reply(status=status))
    with pytest.raises(error) as caught:
        bench.openai(provider).responses.create(model="gpt-5", input="hi")
    assert caught.value.code == code
    assert caught.value.request_id is not None
    assert provider.charges == []


def test_a_script_may_name_the_error(bench: Bench) -> None:
    """`error_type` is OpenAI's type and code at once, such as insufficient_quota."""
    provider = bench.provider(Reply(status=429, error_type="insufficient_quota"))
    with pytest.raises(openai.RateLimitError) as caught:
        bench.openai(provider).responses.create(model="gpt-5", input="hi")
    assert (caught.value.type, caught.value.code) == ("insufficient_quota",) * 2


def test_the_sdks_retry_and_say_so(bench: Bench) -> None:
    """After a 429 and a 503 the third attempt is answered; each attempt is a request, only one is billed."""
    soon = {"retry-after-ms": "1"}
    provider = bench.provider(Reply(status=429, headers=soon), Reply(status=503, headers=soon), Reply())
    bench.anthropic(provider, max_retries=2).messages.create(
        model="claude-sonnet-5-5", max_tokens=5, messages=[{"role": "user", "content": "hi"}]
    )
    assert [request.retry_count for request in provider.requests] == [0, 1, 2]
    assert [charge.number for charge in provider.charges] == [3]


def test_unknown_models_are_not_found(bench: Bench) -> None:
    """A model that the vendor does not have is a 404, also when the other vendor has it."""
    provider = bench.provider()
    with pytest.raises(anthropic.NotFoundError, match="model: gpt-4o"):
        bench.anthropic(provider).messages.create(
            model="gpt-4o", max_tokens=5, messages=[{"role": "user", "content": "hi"}]
        )
    with pytest.raises(openai.NotFoundError) as caught:
        bench.openai(provider).responses.create(model="claude-sonnet-5-5", input="hi")
    assert caught.value.code == "model_not_found"
    assert [request.model for request in provider.requests] == ["gpt-4o", "claude-sonnet-5-5"]


@pytest.mark.parametrize("model", ["gpt-5-mini", "o3", "o4-mini"])
def test_reasoning_models_refuse_the_old_cap(bench: Bench, model: str) -> None:
    """`max_tokens` is an unsupported parameter for them, as in the real API."""
    provider = bench.provider()
    with pytest.raises(openai.BadRequestError, match="Use 'max_completion_tokens' instead") as caught:
        bench.openai(provider).chat.completions.create(
            model=model, messages=[{"role": "user", "content": "hi"}], max_tokens=5
        )
    assert (caught.value.param, caught.value.code) == ("max_tokens", "unsupported_parameter")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"messages": HI}, "max_tokens: Field required"),
        ({"messages": HI, "max_tokens": -1}, "greater than or equal to 0"),
        ({"messages": HI, "max_tokens": "5"}, "valid integer"),
        ({"messages": HI, "max_tokens": 10**9}, "maximum allowed number of output tokens"),
        ({"messages": [], "max_tokens": 5}, "at least one message"),
        ({"max_tokens": 5}, "messages: Field required"),
    ],
)
def test_anthropic_validates_the_request(bench: Bench, body: dict[str, object], message: str) -> None:
    """A request that Anthropic would refuse is a 400 that names the field."""
    provider = bench.provider()
    status, answer = _post(provider, "/v1/messages", json.dumps({"model": "claude-sonnet-5-5", **body}).encode())
    assert status == 400
    assert message in str(answer["error"])


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("chat/completions", {"model": "gpt-4o", "messages": []}, "messages"),
        ("chat/completions", {"model": "gpt-4o", "messages": HI, "n": 0}, "n"),
        ("chat/completions", {"model": "gpt-4o", "messages": HI, "max_tokens": 10**6}, "max_tokens"),
        ("responses", {"model": "gpt-4o"}, "input"),
        ("responses", {"model": "gpt-4o", "input": "hi", "max_output_tokens": 0}, "max_output_tokens"),
        ("responses/input_tokens", {"model": "gpt-4o"}, "input"),
        ("embeddings", {"model": "text-embedding-3-small"}, "input"),
    ],
)
def test_openai_validates_the_request(bench: Bench, path: str, body: dict[str, object], param: str) -> None:
    """A request that OpenAI would refuse is a 400 that names the parameter."""
    provider = bench.provider()
    status, answer = _post(provider, f"/v1/{path}", json.dumps(body).encode())
    error = answer["error"]
    assert isinstance(error, dict)
    assert (status, error["param"]) == (400, param)


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b"\xff\xfe", b"[" * 100_000, b'{"model": 7}'])
@pytest.mark.parametrize("path", ["/v1/messages", "/v1/responses"])
def test_bodies_that_are_no_requests_are_refused(bench: Bench, path: str, body: bytes) -> None:
    """Malformed JSON is a 400 and on record; the provider goes on."""
    provider = bench.provider()
    status, _ = _post(provider, path, body)
    assert status == 400
    assert [request.body.get("messages") for request in provider.requests] == [None]


def test_a_missing_key_and_an_unknown_path_are_refused(bench: Bench) -> None:
    """Without a key it is a 401, elsewhere a 404."""
    provider = bench.provider()
    assert _post(provider, "/v1/responses", b'{"model": "gpt-5"}', key="")[0] == 401
    assert _post(provider, "/v1/nowhere", b"{}")[0] == 404


@pytest.mark.parametrize(
    "garbage",
    [
        b"\r\n\r\n",
        b"HELLO\r\n\r\n",
        b"POST /v1/messages HTTP/1.1\r\ncontent-length: -5\r\n\r\n",
        b"\x16\x03\x01\x00",
    ],
)
def test_no_garbage_stops_the_provider(bench: Bench, garbage: bytes) -> None:
    """After bytes that are no HTTP the next client is served."""
    provider = bench.provider()
    with socket.create_connection(("127.0.0.1", int(provider.anthropic_url.rpartition(":")[2]))) as raw:
        raw.sendall(garbage)
        raw.shutdown(socket.SHUT_WR)
        raw.settimeout(5)
        while raw.recv(4096):
            pass
    assert bench.openai(provider).responses.create(model="gpt-5", input="hi").status == "completed"


def test_a_replies_function_that_raises_shows_in_the_client() -> None:
    """The mistake is in the error's message, and the SDK does not retry it."""

    def broken(request: ReceivedRequest) -> Reply:
        raise KeyError(request.model)

    with (
        Provider(latency_s=0, replies=broken) as provider,
        openai.OpenAI(base_url=provider.openai_url, api_key="x") as client,
    ):
        with pytest.raises(openai.InternalServerError, match=r"KeyError\('gpt-5'\)"):
            client.responses.create(model="gpt-5", input="hi")
        assert len(provider.requests) == 1


def test_a_script_needs_a_reply() -> None:
    """An empty script is a mistake."""
    with pytest.raises(ValueError, match="at least one"):
        scripted([])
