"""What a greeting is."""

from typing import Annotated

from pydantic import Field

from ..runtime.http.body import Body

Words = Annotated[str, Field(min_length=1, max_length=100)]


class Greeting(Body):
    """Somebody and how to greet them."""

    name: Words
    salutation: Words = "Hello"

    @property
    def message(self) -> str:
        return f"{self.salutation}, {self.name}!"
