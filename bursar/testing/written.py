"""What a provider has written, before it is sent or kept."""

from typing import NamedTuple

from bursar.testing.billing import ModelPrice
from bursar.testing.cache import Reading
from bursar.testing.dialect import Answer, Dialect


class Written(NamedTuple):
    """An answer that is ready, with its price and whose words it is in."""

    answer: Answer
    reading: Reading
    price: ModelPrice
    dialect: Dialect
