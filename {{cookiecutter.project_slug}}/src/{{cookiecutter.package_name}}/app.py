"""What this service consists of."""

from .echo import Echo
from .greetings.handlers import GreetByName, Greetings, Welcome
from .runtime import Application, Route
from .settings import Settings


def make_app(settings: Settings) -> Application:
    """Build the application. Runs once in each process that serves, with its current code."""
    return Application(
        settings,
        routes=[
            Route("/", Welcome),
            Route("/greetings", Greetings),
            Route("/greetings/{name}", GreetByName),
            Route("/echo", Echo),
        ],
        # Pools and clients: opened before the service is ready, closed after it has drained.
        resources=[],
    )
