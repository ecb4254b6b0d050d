"""What this service consists of."""

from . import greetings
from .echo import Echo
from .runtime import Application, Route
from .settings import Settings


def make_app(settings: Settings) -> Application:
    """Build the application. Runs once in each process that serves, with its current code."""
    return Application(
        settings,
        routes=[
            *greetings.routes,
            Route("/echo", Echo),
        ],
        # Pools and clients: opened before the service is ready, closed after it has drained.
        resources=[],
    )
