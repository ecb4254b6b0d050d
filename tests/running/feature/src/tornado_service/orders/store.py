"""Where the orders are kept."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import uuid4

from ..runtime import Resource
from ..settings import Settings


@dataclass(frozen=True, slots=True)
class Order:
    """An order that has been placed; `currency` is that of its price."""

    number: str
    item: str
    quantity: int
    currency: str


class OrderStore:
    """Keeps orders in the memory of this process.

    Each worker has a store of its own, and its orders are gone when it stops. The methods are
    ``async``, so that a database can take its place.
    """

    def __init__(self, currency: str) -> None:
        self._currency = currency
        self._orders: dict[str, Order] = {}

    async def add(self, item: str, quantity: int) -> Order:
        # Not a sequence: the number must not be that of another worker's order.
        order = Order(uuid4().hex, item, quantity, self._currency)
        self._orders[order.number] = order
        return order

    async def find(self, number: str) -> Order | None:
        return self._orders.get(number)

    async def close(self) -> None:
        self._orders.clear()


@asynccontextmanager
async def open_orders(settings: Settings) -> AsyncIterator[OrderStore]:
    store = OrderStore(settings.currency)
    try:
        yield store
    finally:
        await store.close()


ORDERS = Resource("orders", open_orders)
