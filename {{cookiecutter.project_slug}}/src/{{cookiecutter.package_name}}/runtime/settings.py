"""The settings: read once from the environment and `.env`, checked as a whole, never changed.

`.env.example` explains each one. The environment wins over `.env`; empty means the default.
"""

import difflib
import os
import re
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal

from dotenv import dotenv_values
from dotenv.parser import parse_stream
from pydantic import (
{% if cookiecutter.processes == "prefork" or cookiecutter.tracing %}
    AfterValidator,
{% endif %}
    BeforeValidator,
    Field,
{% if cookiecutter.tracing %}
    HttpUrl,
{% endif %}
    IPvAnyAddress,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

{% if cookiecutter.processes == "prefork" %}
from .cpus import usable_cpus

{% endif %}
PREFIX = "APP_"
ENV_FILE = ".env"


class BadSettings(Exception):
    """The settings cannot be used; the message has one line for each bad key."""


def _networks(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return tuple(ip_network(item.strip()) for item in value.split(",") if item.strip())


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


{% if cookiecutter.processes == "prefork" %}
def _count(value: Any) -> Any:
    if _lower(value) == "auto":
        return usable_cpus()
    if isinstance(value, str) and not value.isdecimal():
        raise ValueError("must be a whole number or auto")
    return value


def _zero_or_a_second(value: float) -> float:
    if 0 < value < 1:
        raise ValueError("must be 0 or at least 1")
    return value


{% endif %}
{% if cookiecutter.tracing %}
def _plain(url: HttpUrl) -> HttpUrl:
    if url.username or url.password or url.query or url.fragment:
        # Settings are shown, and so must hold no secret that does not look like one.
        raise ValueError("must have no user and no query; for keys use OTEL_EXPORTER_OTLP_HEADERS")
    return url


{% endif %}
Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(ge=0, le=86400)]
Timeout = Annotated[float, Field(gt=0, le=86400)]
Networks = Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode, BeforeValidator(_networks)]
Format = Annotated[Literal["json", "text"], BeforeValidator(_lower)]
Level = Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)]
{% if cookiecutter.processes == "prefork" %}
Workers = Annotated[int, Field(ge=1, le=256), BeforeValidator(_count)]
HangTimeout = Annotated[Seconds, AfterValidator(_zero_or_a_second)]
{% endif %}
{% if cookiecutter.tracing %}
PlainUrl = Annotated[HttpUrl, AfterValidator(_plain)]
{% endif %}


class Settings(BaseSettings):
    """What differs from one deployment to the next.

    A new setting is one line here and one in `.env.example`. A secret gets the type
    `pydantic.SecretStr`, and is then masked wherever settings are shown.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=ENV_FILE, env_ignore_empty=True, extra="ignore", frozen=True
    )

    address: IPvAnyAddress = IPv4Address("127.0.0.1")
    port: Port = 8000
{% if cookiecutter.processes == "prefork" %}
    workers: Workers = {{ cookiecutter.workers }}
    port_per_worker: bool = False
{% endif %}
    admin_address: IPvAnyAddress = IPv4Address("127.0.0.1")
    admin_port: Port = 9000
    log_level: Level = "info"
{% if cookiecutter.logging == "plain" %}
    log_format: Format = "text"
{% else %}
    log_format: Format = "json"
{% endif %}
    log_file: Path | None = None
    drain_delay: Seconds = 0
    drain_timeout: Seconds = 25
{% if cookiecutter.processes == "prefork" %}
    start_timeout: Timeout = 60
    hang_timeout: HangTimeout = 30
{% endif %}
    idle_timeout: Timeout = 75
    body_timeout: Timeout = 30
    max_body_size: Annotated[int, Field(ge=1)] = 1048576
    trusted_proxies: Networks = ()
    threads: Annotated[int, Field(ge=1, le=1000)] = 8
{% if cookiecutter.tracing %}
    otlp_endpoint: PlainUrl | None = None
{% endif %}
    debug: bool = False

{% if cookiecutter.processes == "prefork" %}
    @field_validator("port_per_worker")
    @classmethod
    def _has_ports_enough(cls, wanted: bool, info: ValidationInfo) -> bool:
        ports = _ports(info.data | {"port_per_worker": wanted})
        if wanted and 0 in ports:
            raise ValueError(f"needs a number as {PREFIX}PORT that is not 0")
        if 65536 in ports:
            raise ValueError(f"needs ports up to {ports[-1]}, but the last one is 65535")
        return wanted

{% endif %}
    @field_validator("admin_port")
    @classmethod
    def _is_a_port_of_its_own(cls, port: int, info: ValidationInfo) -> int:
        # Port 0 asks the system for a free one, so two of them never clash.
{% if cookiecutter.processes == "prefork" %}
        if port and port in _ports(info.data):
            raise ValueError(f"must differ from {PREFIX}PORT and from the ports of the workers")
{% else %}
        if port and port == info.data.get("port"):
            raise ValueError(f"must differ from {PREFIX}PORT")
{% endif %}
        return port


{% if cookiecutter.processes == "prefork" %}
def _ports(data: dict[str, Any]) -> range:
    """List the public ports; none if they could not be read."""
    if not {"port", "workers", "port_per_worker"} <= data.keys():
        return range(0)
    return range(data["port"], data["port"] + (data["workers"] if data["port_per_worker"] else 1))


{% endif %}
def load() -> Settings:
    """Read the settings. Raises `BadSettings` with every bad key in one message."""
    lines = []
    try:
        lines += _bad_lines()
        settings = Settings()
    except ValidationError as error:
        lines += [_describe(detail) for detail in error.errors(include_url=False)]
    except (OSError, UnicodeDecodeError) as error:
        lines += [f"{ENV_FILE} cannot be read: {error}"]
    if lines:
        raise BadSettings("\n".join(["Bad settings:", *(f"  {line}" for line in lines)]))
    return settings


def unknown_names() -> list[str]:
    """Describe the names that look like settings and are none: most likely misspelt."""
    known = [PREFIX + name.upper() for name in Settings.model_fields]
    given = {name.upper() for name in [*os.environ, *dotenv_values(ENV_FILE)]}
    descriptions = []
    for name in sorted(given.difference(known)):
        if name.startswith(PREFIX):
            near = difflib.get_close_matches(name, known, n=1)
            hint = f", did you mean {near[0]}?" if near else ""
            descriptions.append(f"{name} is not a setting{hint}")
    return descriptions


{% if cookiecutter.processes == "prefork" %}
def changed_at_start(before: Settings, after: Settings) -> list[str]:
    """List the settings that have changed and that a supervisor acts on when it starts only."""
    at_start = {"address", "port", "workers", "port_per_worker", "admin_address", "admin_port"}
    at_start |= {"log_file", "log_format", "debug"}
    old, new = before.model_dump(), after.model_dump()
    return [PREFIX + name.upper() for name in old if name in at_start and old[name] != new[name]]


{% endif %}
def _bad_lines() -> list[str]:
    if not Path(ENV_FILE).is_file():
        return []
    with open(ENV_FILE, encoding="utf-8") as file:
        return [
            f"{ENV_FILE}, line {binding.original.line}: not of the form NAME=value"
            for binding in parse_stream(file)
            if binding.error
        ]


def _describe(detail: ErrorDetails) -> str:
    name = str(detail["loc"][0])
    message = detail["msg"].removeprefix("Value error, ")
    value = repr(detail["input"])
    if "Secret" in str(Settings.model_fields[name].annotation):
        value = "a secret"
    # A URL may hold credentials, scheme://user:password@host or host?key=..., and any value may
    # have ended up under the wrong key.
    value = re.sub(r":.*@", "://***@", value)
    value = re.sub(r"\?.*(?=['\"])", "?***", value)
    if not message.startswith("URL"):
        message = message[0].lower() + message[1:]
    return f"{PREFIX}{name.upper()}: {message}, got {value}"
