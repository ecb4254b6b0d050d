"""Orders over HTTP."""

from hmac import compare_digest

from prometheus_client import Counter

from ..runtime import Handler, Problem
from ..settings import Settings
from .model import NewOrder
from .store import ORDERS

PLACED = Counter("orders_total", "Orders placed.")


class OrdersHandler(Handler):
    """Requires APP_ORDERS_KEY as a bearer token, if it is set."""

    config: Settings

    def prepare(self) -> None:
        if self.config.orders_key is None:
            return
        expected = f"Bearer {self.config.orders_key.get_secret_value()}"
        given = self.request.headers.get("Authorization", "")
        if not compare_digest(given.encode(), expected.encode()):
            raise Problem(
                401, "Send the key as a bearer token.", headers={"WWW-Authenticate": "Bearer"}
            )


class PlaceOrder(OrdersHandler):
    """``POST /orders``"""

    async def post(self) -> None:
        new = NewOrder.from_request(self.request)
        new.check_quantity(self.config.max_quantity)
        order = await self.resources[ORDERS].add(new.item, new.quantity)
        PLACED.inc()
        self.set_header("Location", f"/orders/{order.number}")
        self.reply({"number": order.number}, status=201)


class ShowOrder(OrdersHandler):
    """``GET /orders/{number}``"""

    async def get(self, number: str) -> None:
        order = await self.resources[ORDERS].find(number)
        if order is None:
            raise Problem(404, "No such order.")
        self.reply(order)
