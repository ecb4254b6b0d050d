"""How the service is, on the admin port, which is for operators and never for the public."""

import logging

{% if cookiecutter.metrics %}
from prometheus_client.registry import Collector

from ..metrics.requests import Exposition, OwnValues, make_registry
{% endif %}
from ..http.application import Application
from ..settings import Settings
from ..status import Watched
from ..http.handler import Handler


class Live(Handler):
    """The event loop turns; whoever finds that it does not may restart the process."""

    def get(self) -> None:
        self.reply({"live": True})


class Ready(Handler):
    """Whether traffic should be sent here."""

    def initialize(self, watched: Watched) -> None:
        self._watched = watched

    def get(self) -> None:
        if reasons := self._watched.why_not_ready():
            self.reply({"ready": False, "reasons": reasons}, status=503)
        else:
            self.reply({"ready": True})


class Workers(Handler):
    """How each worker is."""

    def initialize(self, watched: Watched) -> None:
        self._watched = watched

    def get(self) -> None:
        self.reply({"workers": self._watched.vitals()})


{% if cookiecutter.metrics %}
def make_admin(
    settings: Settings, watched: Watched, values: Collector | None = None
) -> Application:
    """Build what the admin port serves.

    Probes come all day: their access lines are at level debug. `values` are those that the metrics
    have in all processes; this process's own if there is no other.
    """
    registry = make_registry(watched.vitals, OwnValues() if values is None else values)
{% else %}
def make_admin(settings: Settings, watched: Watched) -> Application:
    """Build what the admin port serves.

    Probes come all day: their access lines are at level debug.
    """
{% endif %}
    return Application(
        settings,
        [
            ("/livez", Live),
            ("/readyz", Ready, {"watched": watched}),
            ("/workers", Workers, {"watched": watched}),
{% if cookiecutter.metrics %}
            ("/metrics", Exposition, {"registry": registry}),
{% endif %}
        ],
        access_level=logging.DEBUG,
    )
