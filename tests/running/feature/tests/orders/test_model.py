import pytest

from tornado_service.orders.model import NewOrder
from tornado_service.runtime import Problem


@pytest.mark.parametrize("item", ["A", 100 * "A"])
def test_order_is_valid(item: str) -> None:
    assert NewOrder.parse({"item": item, "quantity": 1}) == NewOrder(item=item, quantity=1)


@pytest.mark.parametrize(
    ("data", "pointers"),
    [
        ({}, ["/item", "/quantity"]),
        ({"item": "", "quantity": 1}, ["/item"]),
        ({"item": 101 * "A", "quantity": 1}, ["/item"]),
        ({"item": "tea", "quantity": 0}, ["/quantity"]),
        ({"item": "tea", "quantity": 1.5}, ["/quantity"]),
        ({"item": "tea", "quantity": "1"}, ["/quantity"]),
        ({"item": "tea", "quantity": True}, ["/quantity"]),
        ({"item": "tea", "quantity": 1, "number": "7"}, ["/number"]),
    ],
)
def test_invalid_data_is_rejected(data: object, pointers: list[str]) -> None:
    with pytest.raises(Problem) as caught:
        NewOrder.parse(data)
    assert caught.value.status_code == 422
    assert [error["pointer"] for error in caught.value.errors or ()] == pointers


def test_quantity_has_a_maximum() -> None:
    order = NewOrder(item="tea", quantity=3)
    order.check_quantity(maximum=3)
    with pytest.raises(Problem) as caught:
        order.check_quantity(maximum=2)
    assert caught.value.status_code == 422
    assert [error["pointer"] for error in caught.value.errors or ()] == ["/quantity"]
