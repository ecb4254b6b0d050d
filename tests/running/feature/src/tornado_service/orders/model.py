"""The request body of an order."""

from typing import Annotated

from pydantic import Field

from ..runtime import Body, Problem


class NewOrder(Body):
    """What to order, and how many."""

    item: Annotated[str, Field(min_length=1, max_length=100)]
    quantity: Annotated[int, Field(strict=True, ge=1)]

    def check_quantity(self, maximum: int) -> None:
        """Check the limit, which is a setting. Raises `Problem` 422."""
        if self.quantity > maximum:
            detail = f"Input should be less than or equal to {maximum}"
            raise Problem(422, errors=[{"pointer": "/quantity", "detail": detail}])
