from tornado_service.orders.store import OrderStore, open_orders
from tornado_service.settings import Settings


async def test_order_is_found_by_its_number() -> None:
    store = OrderStore("EUR")
    tea, milk = await store.add("tea", 1), await store.add("milk", 2)
    assert tea.number != milk.number
    assert await store.find(tea.number) == tea
    assert await store.find(milk.number) == milk


async def test_store_is_closed_and_its_currency_is_a_setting() -> None:
    async with open_orders(Settings(currency="CHF")) as store:
        order = await store.add("tea", 1)
        assert order.currency == "CHF"
    assert await store.find(order.number) is None
