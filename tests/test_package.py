"""The package as a whole: what importing it costs, what it exports, and whether its documents are true."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

import bursar
from bursar import Budget
from bursar.cli.app import app

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SETTINGS = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
DOCS = [p for p in ROOT.rglob("*.md") if ".venv" not in p.parts]


def loaded(code: str) -> list[str]:
    code += "\nimport sys; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_importing_is_light() -> None:
    """`import bursar` loads no SDK, no prices, no database, and at most 200 modules."""
    modules = loaded("import bursar")
    assert len(modules) <= 200
    heavy = {"anthropic", "openai", "langchain_core", "genai_prices", "tiktoken", "apsw", "structlog", "rich", "typer"}
    assert heavy.isdisjoint(modules)


def test_opening_a_run_loads_no_sdk() -> None:
    """A run without a call needs neither SDK nor price data nor tokenizer."""
    modules = loaded("import bursar\nwith bursar.run('x', bursar.Budget(usd='1')): pass")
    assert {"anthropic", "openai", "genai_prices", "tiktoken"}.isdisjoint(modules)


def test_everything_exported_exists_and_says_what_it_is() -> None:
    """Each public name can be imported, has a docstring, and dir() shows nothing else."""
    for name in bursar.__all__:
        assert getattr(bursar, name).__doc__, name
    assert dir(bursar) == sorted(bursar.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        bursar.nothing  # noqa: B018


def test_the_error_tree_is_the_one_that_is_drawn() -> None:
    """The tree at the top of the errors' file names each class under its parent."""
    from bursar.words import errors as _errors

    drawn = re.findall(r"[├└]── (\w+)", _errors.__doc__ or "")
    made = [
        name
        for name, thing in vars(_errors).items()
        if isinstance(thing, type) and issubclass(thing, _errors.BursarError)
    ]
    assert sorted([*drawn, "BursarError"]) == sorted(made)


def test_types_are_shipped() -> None:
    """The package is marked as typed, and its ranks are in it."""
    assert files("bursar").joinpath("py.typed").is_file()
    assert files("bursar.pricing").joinpath("o200k.xz").is_file()


def test_the_docs_name_every_command_and_setting() -> None:
    """Each command is in the README, each variable among the settings."""
    commands = [command.name or "" for command in app.registered_commands]
    commands += [group.name or "" for group in app.registered_groups]
    assert {"demo", "doctor", "import", "report"} <= set(commands)
    for command in commands:
        assert f"bursar {command}" in README
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "bursar").rglob("*.py"))
    # What begins with an underscore is the shell's, for completion.
    for variable in set(re.findall(r"(?<!_)BURSAR_[A-Z_]+", source)) - {"BURSAR_"}:
        assert variable in SETTINGS, variable


@pytest.mark.parametrize("path", DOCS, ids=str)
def test_the_docs_promise_only_arguments_that_exist(path: Path) -> None:
    """What the README or a page writes inside Budget(...) can be given to it."""
    for arguments in re.findall(r"Budget\(([a-z_]+)=", path.read_text(encoding="utf-8")):
        assert arguments in Budget.__dataclass_fields__


@pytest.mark.parametrize("path", DOCS, ids=str)
def test_links_lead_somewhere(path: Path) -> None:
    """Every relative link of a document has a target."""
    for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target
