"""The JSON that the peers and the service send for `/json/{size}`: a list of articles."""

import json
from functools import cache
from typing import TypedDict


class Article(TypedDict):
    """An article of a shop."""

    id: int
    name: str
    price: float
    tags: list[str]


def _article(number: int) -> Article:
    return {
        "id": number,
        "name": f"Article number {number}",
        "price": number + 0.5,
        "tags": ["new", "in stock"],
    }


@cache
def articles(size: int) -> list[Article]:
    """Return as many articles as give about `size` bytes of JSON."""
    length = len(json.dumps(_article(100), separators=(",", ":"))) + 1
    return [_article(number) for number in range(100, 100 + max(1, size // length))]
