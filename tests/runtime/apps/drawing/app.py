"""Responds with the numbers that this worker has drawn."""

import os
import random

import numpy.random
import seeded_library
from runtime import Application, Handler, Route, Settings

DRAWN = {
    "random": random.random(),
    "numpy": numpy.random.random(),
    "seeded_library": seeded_library.random(),
}


class Numbers(Handler):
    def get(self) -> None:
        self.reply({"pid": os.getpid(), **DRAWN})


def make_app(settings: Settings) -> Application:
    return Application(settings, [Route("/", Numbers)])
