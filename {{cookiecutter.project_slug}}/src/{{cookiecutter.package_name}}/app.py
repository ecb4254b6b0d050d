"""What this service consists of."""

from .echo import Echo
from .greetings.handlers import Greetings, GreetSomebody, Welcome
{% if cookiecutter.metrics %}
from .runtime.metrics.requests import Metrics
{% endif %}
from .runtime.http.application import Application
from .runtime.settings import Settings
{% if cookiecutter.tracing %}
from .runtime.tracing.requests import Tracing
{% endif %}


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
{% if cookiecutter.metrics or cookiecutter.tracing %}
        observers=[
{% if cookiecutter.metrics %}
            Metrics(),
{% endif %}
{% if cookiecutter.tracing %}
            Tracing(settings),
{% endif %}
        ],
{% endif %}
    )
