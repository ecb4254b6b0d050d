from http import HTTPStatus

import pytest
from prometheus_client import REGISTRY

from tornado_service.app import make_app
from tornado_service.orders.store import ORDERS, Order, OrderStore
from tornado_service.runtime.testing import Client, response_json, response_problem, serving
from tornado_service.settings import Settings

TEA = {"item": "tea", "quantity": 2}


class FakeStore(OrderStore):
    """Contains one order."""

    order = Order("7", "tea", 2, "EUR")

    def __init__(self) -> None:
        super().__init__("EUR")
        self.added: list[tuple[str, int]] = []

    async def add(self, item: str, quantity: int) -> Order:
        self.added.append((item, quantity))
        return self.order

    async def find(self, number: str) -> Order | None:
        return self.order if number == self.order.number else None


class FullStore(OrderStore):
    """Cannot store an order."""

    async def add(self, item: str, quantity: int) -> Order:
        raise OSError("no space left")


async def test_placed_order_is_shown_at_its_location(client: Client) -> None:
    placed = await client.post("/orders", TEA)
    assert placed.code == HTTPStatus.CREATED
    number = response_json(placed)["number"]
    assert placed.headers["Location"] == f"/orders/{number}"
    shown = await client.get(placed.headers["Location"])
    assert shown.code == HTTPStatus.OK
    assert response_json(shown) == {"number": number, **TEA, "currency": "EUR"}


async def test_unknown_order_is_a_problem(client: Client) -> None:
    response = await client.get("/orders/7")
    assert response.code == HTTPStatus.NOT_FOUND
    assert response_problem(response)["detail"] == "No such order."


async def test_order_without_an_item_is_rejected(client: Client) -> None:
    response = await client.post("/orders", {"quantity": 2})
    assert response.code == HTTPStatus.UNPROCESSABLE_ENTITY
    expected = [{"pointer": "/item", "detail": "Field required"}]
    assert response_problem(response)["errors"] == expected


@pytest.mark.parametrize(
    ("quantity", "status"), [(3, HTTPStatus.CREATED), (4, HTTPStatus.UNPROCESSABLE_ENTITY)]
)
async def test_largest_quantity_is_a_setting(quantity: int, status: HTTPStatus) -> None:
    async with serving(make_app(Settings(max_quantity=3))) as client:
        response = await client.post("/orders", {"item": "tea", "quantity": quantity})
    assert response.code == status


async def test_handlers_ask_the_store() -> None:
    store = FakeStore()
    async with serving(make_app(Settings()), resources={ORDERS: store}) as client:
        placed = await client.post("/orders", TEA)
        assert placed.headers["Location"] == "/orders/7"
        assert store.added == [("tea", 2)]
        assert response_json(await client.get("/orders/7"))["item"] == "tea"
        assert (await client.get("/orders/8")).code == HTTPStatus.NOT_FOUND


async def test_order_is_counted_only_if_it_is_kept(client: Client) -> None:
    def counted() -> float:
        return REGISTRY.get_sample_value("orders_total") or 0

    before = counted()
    await client.post("/orders", TEA)
    assert counted() == before + 1
    app = make_app(Settings())
    async with serving(app, resources={ORDERS: FullStore("EUR")}) as client_of_full_store:
        response = await client_of_full_store.post("/orders", TEA)
    assert response.code == HTTPStatus.INTERNAL_SERVER_ERROR
    assert counted() == before + 1


@pytest.mark.parametrize("authorization", ["", "open sesame", "Bearer open sesam\xe9"])
async def test_without_the_key_nothing_is_possible(authorization: str) -> None:
    async with serving(make_app(Settings(orders_key="open sesame"))) as client:
        for response in (
            await client.post("/orders", TEA, Authorization=authorization),
            await client.get("/orders/7", Authorization=authorization),
        ):
            assert response.code == HTTPStatus.UNAUTHORIZED
            assert response.headers["WWW-Authenticate"] == "Bearer"
            response_problem(response)


async def test_with_the_key_orders_are_placed() -> None:
    async with serving(make_app(Settings(orders_key="open sesame"))) as client:
        response = await client.post("/orders", TEA, Authorization="Bearer open sesame")
    assert response.code == HTTPStatus.CREATED
