"""Users as keyed hashes: pseudonymous, not anonymous. Whoever has the key can look for a user he knows.

Keys have generations, and a hash names its own: `k1:...`. A key is replaced by laying the next one beside it: from then
on users are kept under the new one, and those who are known under an older one are found, and limited, as long as that
is there as well. Whoever has only one of the two keys cannot tell that two hashes are of one person.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from typing import TYPE_CHECKING, Final, NamedTuple

from bursar.words.errors import ConfigError, LedgerError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KEY_BYTES: Final = 32
_SHORTEST: Final = 16
FORGOTTEN: Final = "forgotten"
"""What stands in a row in place of the hash of a forgotten user: costs stay, the person does not."""
VARIABLE: Final = "BURSAR_USER_KEY"
_NAMED: Final = re.compile(r"k([1-9][0-9]{0,3}):(.+)", re.ASCII | re.DOTALL)


class UserKeys(NamedTuple):
    """The keys of a ledger's users, each with its generation, the newest first."""

    kept: tuple[tuple[int, bytes], ...]

    @property
    def newest(self) -> bytes:
        """The key that users are kept under from now on."""
        return self.kept[0][1]

    def hashes(self, user: str) -> tuple[str, ...]:
        """What a user is known as, the newest first."""
        return tuple(hash_user(user, key, generation) for generation, key in self.kept)


def hash_user(user: str, key: bytes, generation: int = 1) -> str:
    """HMAC-SHA-256 of a user under a key, cut to 128 bits; `k1:` names the key's generation."""
    return f"k{generation}:" + hmac.new(key, user.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()[:32]


def load_user_keys(ledger: Path) -> UserKeys:
    """The keys: of `BURSAR_USER_KEY`, else of the files beside the ledger; `user.key` is made at first use.

    The variable is one key, or several with their generations, as in `k2:NEW,k1:OLD`; the files of later ones are
    `user.key.2` and so on. Raises `ConfigError` for a key of less than 16 bytes (its value is not shown) and for two of
    one generation, `LedgerError` where a file can be neither read nor made.
    """
    return _of_variable() or _of_files(ledger) or UserKeys(((1, _made(ledger.parent / "user.key")),))


def load_user_key(ledger: Path) -> bytes:
    """The newest key. Raises as `load_user_keys`."""
    return load_user_keys(ledger).newest


def read_user_keys(ledger: Path) -> UserKeys | None:
    """The keys that there are, without making one. Raises as `load_user_keys`."""
    return _of_variable() or _of_files(ledger)


def _of_variable() -> UserKeys | None:
    named = os.environ.get(VARIABLE)
    if named is None:
        return None
    found: dict[int, bytes] = {}
    for part in named.split(",") if _NAMED.fullmatch(named) else [f"k1:{named}"]:
        each = _NAMED.fullmatch(part)
        if each is None or len(each[2].encode()) < _SHORTEST:
            raise ConfigError(
                f"{VARIABLE} is shorter than {_SHORTEST} bytes, or one of its keys is; make one with: "
                "openssl rand -hex 32. Several are written k2:NEW,k1:OLD."
            )
        if found.setdefault(int(each[1]), each[2].encode()) != each[2].encode():
            raise ConfigError(f"{VARIABLE} has two keys k{each[1]}; the newer one has the higher number")
    return UserKeys(tuple(sorted(found.items(), reverse=True)))


def _of_files(ledger: Path) -> UserKeys | None:
    first = ledger.parent / "user.key"
    found = {1: _used(first, _read)}
    for path in first.parent.glob(f"{first.name}.*"):
        generation = path.name.removeprefix(f"{first.name}.")
        if generation.isdecimal() and generation.isascii() and int(generation) > 1:
            found[int(generation)] = _used(path, _read)
    kept = tuple(sorted(((number, key) for number, key in found.items() if key is not None), reverse=True))
    return UserKeys(kept) if kept else None


def _made(path: Path) -> bytes:
    key = _used(path, _make)
    assert key is not None
    return key


def _used(path: Path, use: Callable[[Path], bytes | None]) -> bytes | None:
    try:
        return use(path)
    except OSError as error:
        raise LedgerError(f"the user key {path} cannot be used ({error.strerror}); set {VARIABLE}") from None


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
