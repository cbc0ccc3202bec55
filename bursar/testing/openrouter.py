"""OpenRouter: the vendors' models by one API, whose answers say what they cost.

After its guides on the models' names, on pricing (what the vendor takes, passed on) and on usage accounting.
"""

import re
from typing import Any

from bursar.testing.billing import ModelPrice
from bursar.testing.prices import PriceList

_PATH = re.compile(r"/api/v1/.+")
_NAME = re.compile(r"(?:openai|anthropic)/(?P<model>[^:]+)")
_NANO = 10**9


def is_openrouter(path: str) -> bool:
    """Whether a path is of OpenRouter's."""
    return _PATH.fullmatch(path) is not None


def price_of(prices: PriceList, model: str) -> ModelPrice | None:
    """The price of a model by OpenRouter's name for it: one of its own, else the vendor's."""
    found = _NAME.fullmatch(model)
    return prices.find(model) or (prices.find(found["model"].replace(".", "-")) if found else None)


def accounts(nusd: int) -> dict[str, Any]:
    """What a usage has besides tokens: dollars, which with OpenRouter's own key are all of the bill."""
    return {"cost": nusd / _NANO, "is_byok": False, "cost_details": {"upstream_inference_cost": None}}
