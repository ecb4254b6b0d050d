"""The request body of a greeting."""

from typing import Annotated

from pydantic import Field

from ..runtime import Body

ShortText = Annotated[str, Field(min_length=1, max_length=100)]


class Greeting(Body):
    """A name and a salutation."""

    name: ShortText
    salutation: ShortText = "Hello"

    @property
    def message(self) -> str:
        return f"{self.salutation}, {self.name}!"
