"""Users as keyed hashes: pseudonymous, not anonymous. Whoever has the key can look for a user he knows."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from typing import TYPE_CHECKING, Final

from bursar.words.errors import ConfigError, LedgerError

if TYPE_CHECKING:
    from pathlib import Path

KEY_BYTES: Final = 32
_SHORTEST: Final = 16
FORGOTTEN: Final = "forgotten"
"""What stands in a row in place of the hash of a forgotten user: costs stay, the person does not."""
VARIABLE: Final = "BURSAR_USER_KEY"


def hash_user(user: str, key: bytes) -> str:
    """HMAC-SHA-256 of a user under a key, cut to 128 bits; `k1:` names the key's generation."""
    return "k1:" + hmac.new(key, user.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()[:32]


def load_user_key(ledger: Path) -> bytes:
    """The key: `BURSAR_USER_KEY`, else a random one in `user.key` beside the ledger, made at first use.

    Raises `ConfigError` for a key of less than 16 bytes (its value is not shown), `LedgerError` where the file can
    be neither read nor made.
    """
    named = os.environ.get(VARIABLE)
    if named is not None:
        if len(named.encode()) < _SHORTEST:
            raise ConfigError(f"{VARIABLE} is shorter than {_SHORTEST} bytes; make one with: openssl rand -hex 32")
        return named.encode()
    path = ledger.parent / "user.key"
    try:
        return _read(path) or _make(path)
    except OSError as error:
        raise LedgerError(f"the user key {path} cannot be used ({error.strerror}); set {VARIABLE}") from None


def read_user_key(ledger: Path) -> bytes | None:
    """The key that there is, without making one. Raises as `load_user_key`."""
    return load_user_key(ledger) if VARIABLE in os.environ else _read(ledger.parent / "user.key")


def _read(path: Path) -> bytes | None:
    try:
        key = path.read_bytes()
    except FileNotFoundError:
        return None
    if len(key) < _SHORTEST:
        raise LedgerError(f"the user key {path} is cut short; restore it, or move it away to start a new one")
    return key


def _make(path: Path) -> bytes:
    # Written whole under another name, then linked: of two processes one wins, and nobody reads half a key.
    draft = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.write(handle, secrets.token_bytes(KEY_BYTES))
    finally:
        os.close(handle)
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
    return path.read_bytes()
