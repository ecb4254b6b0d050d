"""The settings of this service. `.env.example` explains each one."""

from . import runtime
{% if cookiecutter.logging == "plain" %}
from .runtime.settings import LogFormat, WorkerCount
{% else %}
from .runtime.settings import WorkerCount
{% endif %}


class Settings(runtime.Settings):
    """Add a setting here and in `.env.example`. A secret has the type `pydantic.SecretStr`."""

    workers: WorkerCount = {{ cookiecutter.__servers }}
{% if cookiecutter.logging == "plain" %}
    log_format: LogFormat = "text"
{% endif %}

    # Your own settings. The field price_list is the variable APP_PRICE_LIST.
