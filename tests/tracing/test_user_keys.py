"""Keys of users that are replaced: who was known under the old one is found and limited while both are there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from typer.testing import CliRunner

import bursar
from bursar import Budget, BudgetExceeded, ConfigError, LedgerError
from bursar.cli.app import app
from bursar.runs.process import process
from bursar.testing import Provider
from bursar.tracing.forget import count_user, forget_user
from bursar.tracing.queries import Reader
from bursar.tracing.users import VARIABLE, hash_user, load_user_keys

OLD, NEW = "an old key of some length", "a new key of some length"
BOTH = f"k2:{NEW},k1:{OLD}"


@pytest.fixture
def gpt(provider: Provider) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=provider.openai_url, api_key="x", max_retries=0) as client:
        yield bursar.wrap(client)


def calls(client: Any, place: Path, key: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many of five calls Ada gets in a process that starts with this key."""
    monkeypatch.setenv(VARIABLE, key)
    bursar.configure(config=place / "bursar.toml")
    served = 0
    with bursar.run("triage", Budget.unlimited(), user="ada"):
        for _ in range(5):
            try:
                client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "hi"}])
            except BudgetExceeded:
                break
            served += 1
    return served


def test_hashes_of_two_generations_are_told_apart() -> None:
    """The older hash is what it was; under the new key it is another, with another name."""
    keys = load_user_keys_of(BOTH)
    assert keys == (hash_user("ada", NEW.encode(), 2), hash_user("ada", OLD.encode()))
    assert [each[:3] for each in keys] == ["k2:", "k1:"]
    assert load_user_keys_of(f"k1:{OLD},k2:{NEW}") == keys
    assert load_user_keys_of(f"k2:{NEW}") == keys[:1]
    assert load_user_keys_of(OLD) == load_user_keys_of(f"k1:{OLD}") == keys[1:]


def load_user_keys_of(text: str) -> tuple[str, ...]:
    """What Ada is known as where the variable says so."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, text)
        return load_user_keys(Path("nowhere")).hashes("ada")


def test_a_replaced_key_gives_nobody_a_second_day(
    tmp_path: Path, provider: Provider, gpt: openai.OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While both keys are there a user has one limit, also in a process that knows only the old one.

    When the old one is gone, what such a process spent meanwhile is not known under the new one: one call here.
    """
    (tmp_path / "bursar.toml").write_text('[[limit]]\nper = "user"\nwindow = "total"\nmodel_calls = 5\n')
    monkeypatch.setenv(VARIABLE, OLD)
    bursar.configure(config=tmp_path / "bursar.toml")
    for key, asked in ((OLD, 1), (BOTH, 1), (OLD, 1)):
        monkeypatch.setenv(VARIABLE, key)
        bursar.configure(config=tmp_path / "bursar.toml")
        with bursar.run("triage", Budget(model_calls=asked), user="ada"):
            gpt.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "hi"}])
    assert calls(gpt, tmp_path, BOTH, monkeypatch) == 2
    assert calls(gpt, tmp_path, f"k2:{NEW}", monkeypatch) == 1
    assert process().shared.audit() == []


def test_a_limit_is_changed_under_every_key(
    tmp_path: Path, gpt: openai.OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By hand a limit of a user is raised, frozen and thawed by his name, once."""
    (tmp_path / "bursar.toml").write_text('[[limit]]\nper = "user"\nwindow = "day"\nmodel_calls = 2\n')
    assert calls(gpt, tmp_path, BOTH, monkeypatch) == 2
    for words in (("raise", "user/ada", "model_calls", "1"), ("freeze", "user/ada"), ("thaw", "user/ada")):
        done = CliRunner().invoke(app, ["limits", *words])
        assert (done.exit_code, len(done.output.splitlines())) == (0, 2), done.output
    assert calls(gpt, tmp_path, BOTH, monkeypatch) == 1


def test_whoever_is_forgotten_is_forgotten_under_every_key(
    tmp_path: Path, ledger: Path, gpt: openai.OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With both keys all of his rows are found; with the new one alone only those since."""
    (tmp_path / "bursar.toml").write_text("")
    calls(gpt, tmp_path, OLD, monkeypatch)
    calls(gpt, tmp_path, BOTH, monkeypatch)
    with Reader(ledger) as reader:
        assert {row.key[:3] for row in reader.spend_by("user")} == {"k1:", "k2:"}
    monkeypatch.setenv(VARIABLE, f"k2:{NEW}")
    assert count_user(process().ledger, "ada").model_calls == 5
    monkeypatch.setenv(VARIABLE, BOTH)
    assert forget_user(process().ledger, "ada").model_calls == 10
    with Reader(ledger) as reader:
        assert [row.key for row in reader.spend_by("user")] == ["forgotten"]


def test_keys_in_files_have_generations_too(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest file is in force; the first may go when nobody is to be found under it any more."""
    first = load_user_keys(ledger)
    second = ledger.with_name("user.key.2")
    second.write_bytes(b"n" * 32)
    ledger.with_name("user.key.123.abcd").write_bytes(b"the draft of a process that died")
    assert load_user_keys(ledger).kept == ((2, b"n" * 32), *first.kept)
    ledger.with_name("user.key").unlink()
    assert load_user_keys(ledger).kept == ((2, b"n" * 32),)
    assert not ledger.with_name("user.key").exists()
    second.write_bytes(b"short")
    with pytest.raises(LedgerError, match=r"user\.key\.2 is cut short"):
        load_user_keys(ledger)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"k2:{NEW},k1:short", "shorter than 16 bytes"),
        (f"k2:{NEW},{OLD}", "k2:NEW,k1:OLD"),
        (f"k2:{NEW},k2:{OLD}", "two keys k2"),
        ("k2:short", "shorter than 16 bytes"),
    ],
)
def test_keys_that_cannot_be_meant_are_refused_unseen(
    ledger: Path, monkeypatch: pytest.MonkeyPatch, text: str, said: str
) -> None:
    """One of them short, without its generation, or two of one: the message shows none of them."""
    monkeypatch.setenv(VARIABLE, text)
    with pytest.raises(ConfigError, match=said) as refused:
        load_user_keys(ledger)
    assert OLD not in str(refused.value)
    assert NEW not in str(refused.value)


def test_doctor_says_which_key_is_in_force(ledger: Path, gpt: openai.OpenAI, monkeypatch: pytest.MonkeyPatch) -> None:
    """And under which others users are found."""
    monkeypatch.setenv(VARIABLE, BOTH)
    with bursar.run("triage", Budget(usd="1"), user="ada"):
        gpt.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "hi"}])
    assert "users are kept under key k2, and found under k2, k1" in CliRunner().invoke(app, ["doctor"]).output
