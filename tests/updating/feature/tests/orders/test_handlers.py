from tornado_service.runtime.testing import Client, response_json


async def test_orders_are_listed_with_the_currency(client: Client) -> None:
    response = await client.get("/orders")
    assert response_json(response) == {"currency": "EUR", "orders": []}
