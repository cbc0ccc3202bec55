"""Secrets are taken out by their shape and by what the environment holds, wherever they stand; honest text stays."""

from __future__ import annotations

import string
import timeit
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import pytest

from bursar.tracing import redact as module
from bursar.tracing.ledger import Ledger
from bursar.tracing.log import TraceLog
from bursar.tracing.recorder import Recorder
from bursar.tracing.redact import MARK, cleaned, mask, plain, redact
from bursar.words.events import Status
from bursar.words.records import ModelCall, RunRecord, Tags, Verdict, Who

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BODY = "Zq7" + string.ascii_letters[:40]
SECRETS = {
    "openai": f"sk-{BODY}",
    "openai project": f"sk-proj-{BODY}_x-{BODY}",
    "anthropic": f"sk-ant-api03-{BODY}-AA",
    "openrouter": "sk-or-v1-" + "0a" * 32,
    "google": "AIza" + "Sy" + BODY[:33],
    "slack": "xoxb-123456789012-abcdefABCDEF",
    "github": "ghp_" + "a1B2" * 9,
    "github fine": "github_pat_" + "a1B2_" * 10,
    "aws": "AKIAIOSFODNN7EXAMPLE",
    "stripe": "sk_live_" + "a1B2" * 6,
    "hugging face": "hf_" + "a1B2" * 8,
    "groq": "gsk_" + "a1B2" * 8,
    "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P",
}
HONEST = [
    "claude-sonnet-5-5",
    "anthropic.claude-3-5-sonnet-20240620-v1:0",
    "ft:gpt-4o-2024-08-06:org::9abcDEF0",
    "msg_01XFDUDYJgAACzvnptvVoYEL",
    "req_011CSHoEeqs5C35K2UUqR7Fy",
    "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT",
    "resp_68a1f2f0c4e8819ab2f3d4e5f6a7b8c90123456789abcdef",
    "risk-assessment-report-2026-for-the-board",
    "task-force-a1b2c3d4e5f6a7b8c9d0",
    "sk-learn-based-classifier-model",
    "a basic understanding of bearer bonds",
    "https://example.org/a?b=1&page=2",
    "tokens: 12, cost: 3; the key idea is: be kind",
    "max_tokens=128000, input_tokens: 12345678",
    "rate_limit_error",
    "invalid_request_error",
]


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """The environment is looked at anew by each test, and after it."""
    module._environment._next_look = 0.0
    yield
    module._environment._next_look = 0.0


@pytest.mark.parametrize("kind", SECRETS)
def test_a_key_is_known_by_its_shape(kind: str) -> None:
    """Alone, in a sentence, in JSON, in a URL and glued to a sign: not six characters of its body stay."""
    secret = SECRETS[kind]
    for text in (
        secret,
        f"key {secret}.",
        f'{{"k":"{secret}"}}',
        f"https://h/p?x={secret}&y=1",
        f"({secret})={secret}",
    ):
        shown = redact(text)
        assert secret[-12:] not in shown, text
        assert MARK in shown


@pytest.mark.parametrize("text", HONEST)
def test_honest_text_stays_as_it_is(text: str) -> None:
    """Names of models, ids of answers and plain words are not secrets."""
    assert redact(text) is text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Authorization: Bearer abc123def456", "Authorization: Bearer [redacted]"),
        ("authorization: Basic dXNlcjpwYXNzd29yZA==", "authorization: Basic [redacted]"),
        ("postgres://bob:hunter2@db.example/x", "postgres://[redacted]@db.example/x"),
        ("https://tokenonly@host/", "https://[redacted]@host/"),
        ("https://h/?api_key=abcdefg&x=1#f", "https://h/?api_key=[redacted]&x=1#f"),
        ("https://h/?X-Amz-Signature=0123abcd&x=1", "https://h/?X-Amz-Signature=[redacted]&x=1"),
        ("{'x-api-key': 'qwertz123', 'a': 1}", "{'x-api-key': '[redacted]', 'a': 1}"),
        ('{"password": "hunter22"}', '{"password": "[redacted]"}'),
        ("client_secret=abcdefgh", "client_secret=[redacted]"),
        (
            "-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabc\n-----END RSA PRIVATE KEY----- after",
            "[redacted] after",
        ),
        ("-----BEGIN PRIVATE KEY-----\nMIIE cut off", "[redacted]"),
    ],
)
def test_what_names_a_secret_stays_readable(text: str, shown: str) -> None:
    """Headers, URLs, assignments and key blocks: the value goes, the rest stays."""
    assert redact(text) == shown


def test_values_of_the_environment_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever their shape, percent-encoded too, set late too; short values and other variables are no secrets."""
    monkeypatch.setenv("ACME_TOKEN", "correct horse/battery")
    monkeypatch.setenv("ACME_TOKEN_2", "correct horse/battery staple")
    monkeypatch.setenv("PGPASSWORD", "swordfish-and-more")
    monkeypatch.setenv("SHORT_KEY", "prod")
    monkeypatch.setenv("MONKEY_MODE", "production")
    text = "a correct horse/battery staple, correct%20horse%2Fbattery, swordfish-and-more; prod production"
    assert redact(text) == f"a {MARK}, {MARK}, {MARK}; prod production"
    monkeypatch.setenv("LATE_SECRET", "came-after-all")
    module._environment._next_look = 0.0
    assert redact("came-after-all") == MARK


@pytest.mark.parametrize("length", [10, 1_000, 100_000])
@pytest.mark.parametrize(
    "piece",
    ["a", "=", "sk-", "://", "eyJ", "token=", "-----BEGIN ", "1 ", "a@", "a.", "DE89", "hf_", "sk-a ", "Bearer "],
)
def test_no_text_makes_it_slow(piece: str, length: int) -> None:
    """Time grows with the length and no faster: 100,000 characters of any pattern's beginning take under 2 s."""
    text = (piece * length)[:length]
    assert timeit.timeit(lambda: mask(text), number=1) < 2


def test_masking_takes_people_out_as_well() -> None:
    """E-mail addresses, cards and IBANs that pass their own checks; other numbers stay."""
    text = (
        "ada@example.org, 4111 1111 1111 1111, 4111-1111-1111-1112, 5500005555555559, order 1234567890123, "
        "DE89 3704 0044 0532 0130 00, GB82WEST12345698765432, DE00 3704 0044 0532 0130 00, 0000000000000"
    )
    assert mask(text) == (
        "[e-mail], [card], 4111-1111-1111-1112, [card], order 1234567890123, "
        "[iban], [iban], DE00 3704 0044 0532 0130 00, 0000000000000"
    )
    assert redact(text) == text


class Secretive:
    """Says its secret to whoever asks."""

    def __repr__(self) -> str:
        raise AssertionError(SECRETS["openai"])

    __str__ = __repr__


class Loud(str):
    """A text whose methods are not to be called."""

    __slots__ = ()

    def __str__(self) -> str:
        raise AssertionError

    def __eq__(self, other: object) -> bool:
        raise AssertionError

    __hash__ = str.__hash__


class Model(StrEnum):
    BIG = "gpt-4o"


def test_no_code_of_an_object_is_run() -> None:
    """Numbers pass, text comes as plain text, anything else is its type's name."""
    assert [plain(value) for value in (None, True, 3, 1.5)] == [None, True, 3, 1.5]
    assert plain(Secretive()) == "<Secretive>"
    assert plain({"a": 1}) == "<dict>"
    assert plain(Loud("text")).__class__ is str
    assert plain(Model.BIG) == "gpt-4o"
    assert len(plain("x" * 10**6)) == module.LOOKED_AT


def call(**changes: Any) -> ModelCall:
    fields: dict[str, Any] = {
        "call_id": "a/0", "op_id": "a", "attempt": 0, "ts_us": 1, "who": Who(Tags("w"), "u", "s"),
        "provider": "openai", "request_model": "gpt-4o", "path": "sync", "run_id": "R", "response_id": "chatcmpl-1a2b",
        "request_id": "req_1", "response_model": "gpt-4o-2024-08-06", "host": "api.openai.com", "finish_reason": "stop",
    }  # fmt: skip
    return ModelCall(**(fields | changes))


def test_a_clean_record_is_the_same_object() -> None:
    """Nothing is copied where there is nothing to take out."""
    for record in (call(), Verdict(1, "R", "a", "budget", "deny", "no_room"), RunRecord("R", None, Who(), 1)):
        assert cleaned(record) is record


@pytest.mark.parametrize(
    "field", ["request_model", "response_model", "host", "response_id", "request_id", "error_type", "finish_reason",
              "tier_requested", "tier_served", "speed", "provider"],
)  # fmt: skip
def test_no_field_of_a_call_is_exempt(field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By shape and by value, again and again, also where honest values were seen before."""
    monkeypatch.setenv("ODD_TOKEN", "swordfish9")
    cleaned(call())
    for _ in range(2):
        for secret in (SECRETS["anthropic"], "swordfish9"):
            kept = cleaned(call(**{field: f"see {secret} there"}))
            assert getattr(kept, field) == f"see {MARK} there"
    assert getattr(cleaned(call(**{field: Secretive()})), field) == "<Secretive>"


def test_no_tag_flag_or_reason_is_exempt(ledger: Path, tmp_path: Path) -> None:
    """Tags, extra tags, sessions, flags, reasons and endings: the secret is in no byte of ledger, log or spool."""
    secret, key = SECRETS["openai"], SECRETS["github"]
    who = Who(Tags(secret, secret, secret, secret, secret, secret, secret, secret, ((key, secret),)), "u", secret)
    log, writer = TraceLog(tmp_path / "runs.jsonl"), Ledger(ledger)
    recorder = Recorder(writer, log)
    records = (
        RunRecord("R", None, who, 1, stop_reason=secret),
        call(who=who, flags=("ok", secret), status=Status.ERROR),
        Verdict(1, "R", "a", secret, secret, secret, secret, secret),
    )
    for record in records:
        recorder.write(record)
    blocked = Ledger(tmp_path / "blocked" / "ledger.db")
    (tmp_path / "blocked").mkdir()
    (tmp_path / "blocked" / "ledger.db").mkdir()
    with pytest.warns(UserWarning, match="records go to"):
        for record in records:
            Recorder(blocked).write(record)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {"ledger.db", "runs.jsonl", "ledger.db.spool"}
    for path in files:
        assert secret[5:25].encode() not in path.read_bytes(), path
        assert key[5:25].encode() not in path.read_bytes(), path
    writer.close()
    log.close()


def test_the_quick_look_misses_nothing() -> None:
    """The quick look before the search finds whatever the search finds: each secret has a hint in it."""
    for text in [
        *SECRETS.values(),
        "Bearer abc123def456",
        "BASIC dXNlcjpwYXNzd29yZA==",
        "password: hunter22",
        "-----BEGIN PRIVATE KEY-----",
    ]:
        assert module._SHAPES.search(text), text
        assert module._suspicious(text), text
