"""The command of the service, and which optional parts it has."""

import sys

from . import __version__
from .runtime import Service
{% if cookiecutter.metrics %}
from .runtime.metrics import Metrics
{% endif %}
{% if cookiecutter.tracing %}
from .runtime.tracing import Tracing
{% endif %}
{% if cookiecutter.processes == "prefork" %}
from .runtime.workers import Prefork
{% endif %}

service = Service(
    __package__,
    __version__,
{% if cookiecutter.processes == "prefork" %}
    processes=Prefork(),
{% endif %}
    extensions=[
        # What observes every request. An error tracker of your own goes here, too.
{% if cookiecutter.metrics %}
        Metrics(),
{% endif %}
{% if cookiecutter.tracing %}
        Tracing(),
{% endif %}
    ],
)
main = service.main

if __name__ == "__main__":
    sys.exit(main())
