"""Refusals: the errors of both vendors, with the bodies they really send."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bursar.testing.billing import Vendor

_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    503: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_ANTHROPIC_MESSAGES = {
    429: "This request would exceed your organization's rate limit. Please try again later.",
    500: "Internal server error",
    529: "Overloaded",
}
_OPENAI_TYPES = {429: "tokens", 500: "server_error", 503: "service_unavailable_error", 504: "server_error"}
_OPENAI_CODES = {429: "rate_limit_exceeded"}
_OPENAI_MESSAGES = {
    429: "Rate limit reached on tokens per min (TPM). Please try again in 20ms.",
    500: "The server had an error while processing your request. Sorry about that!",
    503: "The engine is currently overloaded, please try again later",
}


@dataclass(eq=False)
class RefusalError(Exception):
    """A request answered with an error; `kind` is the vendor's error type where it is not the usual."""

    status: int
    message: str = ""
    kind: str | None = None
    param: str | None = None
    code: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def body(self, vendor: Vendor, request_id: str) -> dict[str, Any]:
        """The JSON that this vendor sends."""
        if vendor == "anthropic":
            return self._anthropic(request_id)
        return self._openai()

    def _anthropic(self, request_id: str) -> dict[str, Any]:
        usual = "api_error" if self.status >= 500 else "invalid_request_error"
        kind = self.kind or _ANTHROPIC_TYPES.get(self.status, usual)
        message = self.message or _ANTHROPIC_MESSAGES.get(self.status, f"Scripted error {self.status}")
        return {"type": "error", "error": {"type": kind, "message": message}, "request_id": request_id}

    def _openai(self) -> dict[str, Any]:
        usual = "server_error" if self.status >= 500 else "invalid_request_error"
        kind = self.kind or _OPENAI_TYPES.get(self.status, usual)
        message = self.message or _OPENAI_MESSAGES.get(self.status, f"Scripted error {self.status}")
        code = self.code or self.kind or _OPENAI_CODES.get(self.status)
        return {"error": {"message": message, "type": kind, "param": self.param, "code": code}}


def unauthorised(vendor: Vendor) -> RefusalError:
    """No key was sent."""
    if vendor == "anthropic":
        return RefusalError(401, "x-api-key header is required")
    return RefusalError(401, "You didn't provide an API key.", code="invalid_api_key")


def unknown_model(vendor: Vendor, model: str) -> RefusalError:
    """This vendor has no such model."""
    if vendor == "anthropic":
        return RefusalError(404, f"model: {model}")
    message = f"The model `{model}` does not exist or you do not have access to it."
    return RefusalError(404, message, code="model_not_found")


def unreadable_body(vendor: Vendor) -> RefusalError:
    """The body is no JSON object."""
    if vendor == "anthropic":
        return RefusalError(400, "The request body is not valid JSON: expected an object")
    return RefusalError(400, "We could not parse the JSON body of your request. The API expects a JSON object.")


def missing_model(vendor: Vendor) -> RefusalError:
    """The request names no model."""
    if vendor == "anthropic":
        return RefusalError(400, "model: Field required")
    return RefusalError(400, "you must provide a model parameter")


def unknown_url(vendor: Vendor, method: str, path: str) -> RefusalError:
    """This provider has nothing there."""
    if vendor == "anthropic":
        return RefusalError(404, "Not Found")
    return RefusalError(404, f"Invalid URL ({method} {path})", code="unknown_url")


def id_header(vendor: Vendor, request_id: str) -> dict[str, str]:
    """The response header in which this vendor names the request."""
    return {"request-id" if vendor == "anthropic" else "x-request-id": request_id}
