"""The folder of the ledger as a shelf of prices: `prices.toml`, what was set by hand, and newer price data."""

from __future__ import annotations

import fcntl
import json
import os
from typing import TYPE_CHECKING, Final

from bursar.pricing.rates import PriceList
from bursar.words.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from bursar.settings.config import Settings
    from bursar.settings.prices import PriceSpec

NAME: Final = "prices.toml"
_HEAD: Final = (
    "# Prices set by `bursar prices set`. The last entry for a model goes first; edit or delete as you like.\n"
)


def price_list(ledger: Path, settings: Settings) -> PriceList:
    """The prices of a process: what was set by hand, else in `bursar.toml`, else the list. Raises `ConfigError`."""
    return PriceList(
        home=ledger.parent,
        set_prices=[*settings.prices, *read_shelf(ledger)],
        max_age_days=settings.max_price_age_days(),
    )


def read_shelf(ledger: Path) -> tuple[PriceSpec, ...]:
    """What was set by hand. Raises `ConfigError` with file, line and value."""
    path = ledger.with_name(NAME)
    # Not Path.is_file: a process without such a file should not pay for more than one look.
    if not os.path.isfile(path):  # noqa: PTH113
        return ()
    from bursar.settings.file import File
    from bursar.settings.toml import read_prices

    file = File(path)
    file.check_keys((), file.content, ["price"])
    return read_prices(file, by_hand=True)


def add_price(ledger: Path, fields: Mapping[str, str]) -> tuple[Path, PriceSpec]:
    """Add a price to what was set by hand. Raises `ConfigError`, and writes nothing, where it cannot be meant."""
    from bursar.settings.file import File
    from bursar.settings.toml import read_prices

    path = ledger.with_name(NAME)
    block = "\n[[price]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in fields.items())
    checked = path.with_name(f"{NAME}.{os.getpid()}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with path.open("a+", encoding="utf-8") as shelf:
            fcntl.flock(shelf, fcntl.LOCK_EX)
            shelf.seek(0)
            before = shelf.read()
            addition = (block if before else _HEAD + block) if before.endswith("\n") or not before else f"\n{block}"
            # Read as it will be read, before anybody else does: a file that is no use would stop every process.
            checked.write_text(before + addition, encoding="utf-8")
            found = read_prices(File(checked), by_hand=True)[-1]
            shelf.write(addition)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({error.strerror})") from None
    except ConfigError as error:
        raise ConfigError(str(error).replace(str(checked), str(path))) from None
    finally:
        checked.unlink(missing_ok=True)
    return path, found._replace(origin=found.origin.replace(checked.name, NAME))
