"""Greetings over HTTP."""

from ..runtime.http.handler import Handler
from .model import Greeting


class Welcome(Handler):
    """``GET /``"""

    def get(self) -> None:
        self.reply({"message": Greeting(name="world").message})


class GreetSomebody(Handler):
    """``GET /greetings/{name}``"""

    def get(self, name: str) -> None:
        self.reply({"message": Greeting.of({"name": name}).message})


class Greetings(Handler):
    """``POST /greetings``"""

    def post(self) -> None:
        self.reply({"message": Greeting.read(self.request).message}, status=201)
