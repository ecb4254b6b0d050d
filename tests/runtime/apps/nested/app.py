"""Responds with a number that another module of the package contains."""

import myservice.runtime
from myservice.greetings.counted import N

from . import names
from .runtime import Application, Handler, Route
from .settings import Settings


class Number(myservice.runtime.Handler):
    def get(self) -> None:
        same = myservice.runtime.Handler is Handler and isinstance(self.config, Settings)
        self.reply({"number": N, "service": names.SERVICE.name, "is_one_runtime": same})


def make_app(settings: Settings) -> Application:
    return Application(settings, [Route("/", Number)])
