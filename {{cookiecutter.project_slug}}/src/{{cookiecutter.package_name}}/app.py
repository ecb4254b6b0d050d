"""What this service consists of."""

from .echo import Echo
from .greetings.handlers import Greetings, GreetSomebody, Welcome
from .routing import Application
from .settings import Settings


def make_app(settings: Settings) -> Application:
    """Put the service together.

    A pool or client that lives as long as the service is one of the ``resources=``.
    """
    return Application(
        settings,
        [
            ("/", Welcome),
            ("/greetings", Greetings),
            ("/greetings/{name}", GreetSomebody),
            ("/echo", Echo),
        ],
    )
