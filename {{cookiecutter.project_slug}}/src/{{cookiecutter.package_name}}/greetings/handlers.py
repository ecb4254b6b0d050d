"""Greetings over HTTP."""

from ..runtime import Handler
from .model import Greeting


class Welcome(Handler):
    """``GET /``"""

    def get(self) -> None:
        self.reply({"message": Greeting(name="world").message})


class GreetByName(Handler):
    """``GET /greetings/{name}``"""

    def get(self, name: str) -> None:
        self.reply({"message": Greeting.parse({"name": name}).message})


class Greetings(Handler):
    """``POST /greetings``"""

    def post(self) -> None:
        self.reply({"message": Greeting.from_request(self.request).message}, status=201)
