"""The whole surface of both SDKs, walked: what a strict client lets through is metered, or known to cost nothing."""

from __future__ import annotations

import inspect
import json
import re
import warnings
from typing import TYPE_CHECKING, Any

import anthropic
import openai
import pytest

import bursar
from bursar.words.errors import BursarError, ConfigError
from tests.clients.http import HTTP

if TYPE_CHECKING:
    from collections.abc import Iterator

METERED = re.compile(r"/(v1/messages|chat/completions|responses|responses/compact|completions|embeddings)")
FREE = re.compile(
    r".*/(count_tokens|input_tokens|cancel)|.*/uploads(/.*)?|/v1/(organizations|projects)(/.*)?"
    r"|/(conversations|moderations|organization|projects)(/.*)?|/chat/completions/[^/]+"
)
"""What costs nothing, by the vendors' price pages and references: counting, cancelling, administration, moderation."""
FILLINGS: tuple[Any, ...] = ("x", [], {}, b"x", 1)
LEAST = {"openai": 60, "anthropic": 40}
"""Writing methods that the oldest supported SDK has at least: a walk that finds fewer has lost its way."""


def resources(holder: Any, path: str, seen: set[type]) -> Iterator[tuple[str, Any]]:
    """Every resource under a client, with its path."""
    for name in sorted(dir(type(holder))):
        if name.startswith("_") or "with_" in name or not hasattr(holder, name):
            continue
        found = getattr(holder, name)
        if hasattr(found, "_client") and type(found).__module__.partition(".")[0] in ("openai", "anthropic"):
            yield f"{path}{name}", found
            if type(found) not in seen:
                yield from resources(found, f"{path}{name}.", seen | {type(found)})


def filled(method: Any, filling: Any) -> dict[str, Any]:
    """A value for each argument that a method cannot do without."""
    wanted = inspect.signature(method).parameters.values()
    kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return {each.name: filling for each in wanted if each.default is inspect.Parameter.empty and each.kind not in kinds}


class World:
    """Strict clients of both SDKs on a network that answers everything alike, and what was sent over it."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str]] = []
        self.http = HTTP.Client(transport=HTTP.MockTransport(self._answer))
        self.clients: dict[str, Any] = {
            "openai": bursar.wrap(openai.OpenAI(api_key="x", http_client=self.http, max_retries=0), strict=True),
            "anthropic": bursar.wrap(
                anthropic.Anthropic(api_key="x", http_client=self.http, max_retries=0), strict=True
            ),
        }

    def _answer(self, request: Any) -> Any:
        path = request.url.path
        self.sent.append((request.method, path.removeprefix("/v1") if request.url.host == "api.openai.com" else path))
        return HTTP.Response(404, content=json.dumps({"error": {"message": "no"}}).encode())

    def attempt(self, method: Any) -> BaseException | None:
        """Call a method with anything that it takes; what it raised when it went furthest."""
        raised: BaseException | None = None
        for filling in FILLINGS:
            try:
                method(**filled(method, filling))
            except (openai.APIStatusError, anthropic.APIStatusError, BursarError) as error:
                return error
            except Exception as error:  # noqa: BLE001 - not what it takes: the next filling may be
                raised = error
            else:
                return None
        return raised


@pytest.mark.parametrize("sdk", ["openai", "anthropic"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_whatever_is_written_is_metered_refused_or_free(sdk: str) -> None:
    """Each method of each resource: a POST that leaves a strict client is in one of two lists made by hand."""
    world, refused, written = World(), 0, 0
    with world.http, bursar.run("surface", bursar.Budget.unlimited()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path, resource in resources(world.clients[sdk], "", set()):
            for name, method in inspect.getmembers(resource, inspect.ismethod):
                if name.startswith(("_", "with_", "stream", "tool_runner", "connect", "poll", "wait")):
                    continue
                if name.endswith("_poll") or name in ("until_done", "upload_file_chunked", "worker", "runner"):
                    continue
                world.sent.clear()
                raised = world.attempt(method)
                refused += isinstance(raised, ConfigError)
                posted = [where for verb, where in world.sent if verb == "POST"]
                written += bool(posted) or isinstance(raised, ConfigError)
                for where in posted:
                    assert METERED.fullmatch(where) or FREE.fullmatch(where), f"{path}.{name} sent POST {where}"
    assert refused > LEAST[sdk] // 2
    assert written > LEAST[sdk]


def test_every_websocket_is_refused() -> None:
    """However deep in the client: `connect` of a strict client raises before anything is opened."""
    world, found = World(), []
    with world.http:
        for path, resource in resources(world.clients["openai"], "", set()):
            if hasattr(resource, "connect"):
                with pytest.raises(ConfigError, match="websockets"):
                    resource.connect(**filled(resource.connect, "x"))
                found.append(path)
    assert {"realtime"} <= set(found)
