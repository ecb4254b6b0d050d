"""What the service consists of."""

import os

# Absolute on purpose: the supervisor must not import the module however it is named.
from brewery.brewing import BREWER, CUPS

from . import LEAVES
from .runtime import Application, Handler, Route
from .settings import Settings


class Brew(Handler):
    def post(self) -> None:
        CUPS.inc()
        LEAVES.inc(5)
        self.reply(status=201)


def make_app(settings: Settings) -> Application:
    BREWER.set(os.getpid())
    return Application(settings, [Route("/cups", Brew)])
