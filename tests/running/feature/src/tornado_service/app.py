"""What this service consists of."""

from . import greetings, orders
from .echo import Echo
from .orders.store import ORDERS
from .runtime import Application, Route
from .settings import Settings


def make_app(settings: Settings) -> Application:
    """Build the application. Runs once in each worker, with the code of that moment."""
    return Application(
        settings,
        routes=[
            *greetings.routes,
            *orders.routes,
            Route("/echo", Echo),
        ],
        # Pools and clients: opened before the service is ready, closed after it has drained.
        resources=[ORDERS],
    )
