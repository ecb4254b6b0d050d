"""The sample feature. Delete this folder together with its routes in `app.py`."""

from ..runtime import Route
from .handlers import GreetByName, Greetings, Welcome

routes = [
    Route("/", Welcome),
    Route("/greetings", Greetings),
    Route("/greetings/{name}", GreetByName),
]
