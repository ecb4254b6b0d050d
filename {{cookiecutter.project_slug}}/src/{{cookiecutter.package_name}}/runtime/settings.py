"""Settings from the environment and `.env`: read once, validated together, immutable.

`.env.example` explains each one. The environment wins over `.env`; empty means the default.
"""

import difflib
import json
import os
import re
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self, get_args

from dotenv import dotenv_values
from dotenv.parser import parse_stream
from pydantic import (
    AfterValidator,
    BeforeValidator,
    ByteSize,
    Field,
    IPvAnyAddress,
    Secret,
    SecretBytes,
    SecretStr,
    ValidationError,
    ValidationInfo,
    create_model,
    field_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from pydantic_settings import SettingsError as DecodingError

from .cpus import usable_cpus
from .errors import SettingsError

PREFIX = "APP_"
ENV_FILE = ".env"
MAX_PORT = 65535
MAX_WORKERS = 256

_ORIGIN = re.compile(
    r"(https?)://(?:[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])(?::([1-9][0-9]{0,4}))?"
)
_USUAL_PORTS = {("http", "80"), ("https", "443")}

# The supervisor uses these when it starts; a reload does not apply a change of them.
RESTART_REQUIRED = frozenset(
    {
        "address",
        "admin_address",
        "admin_port",
        "control_socket",
        "debug",
        "log_file",
        "log_format",
        "port",
        "port_per_worker",
        "workers",
    }
)


def _parse_networks(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return tuple(ip_network(item.strip()) for item in value.split(",") if item.strip())


def _parse_origins(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    origins = tuple(item.strip().lower() for item in value.split(",") if item.strip())
    for origin in origins:
        match = _ORIGIN.fullmatch(origin)
        # Browsers leave out the usual port.
        if not match or match.groups() in _USUAL_PORTS:
            raise ValueError(
                f"{_redact(origin)} is not an origin such as https://app.example:"
                " http or https, a host, and the port if it is not the usual one"
            )
    return origins


def _lowercase(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _parse_worker_count(value: Any) -> Any:
    if _lowercase(value) == "auto":
        return usable_cpus()
    if isinstance(value, str) and not value.isdecimal():
        raise ValueError("must be a whole number or auto")
    return value


def _zero_or_at_least_one_second(value: float) -> float:
    if 0 < value < 1:
        raise ValueError("must be 0 or at least 1")
    return value


def _zero_or_at_least_one_mebibyte(value: ByteSize) -> ByteSize:
    # No worker is smaller. Without a unit it may be meant in megabytes.
    if 0 < value < 1 << 20:
        raise ValueError("must be 0, or at least 1MiB (with a unit, such as 512MiB)")
    return value


Port = Annotated[int, Field(ge=0, le=MAX_PORT)]
"""A TCP port; 0 lets the operating system choose one."""
Seconds = Annotated[float, Field(ge=0, le=86400)]
"""A duration in seconds, 0 to a day."""
Timeout = Annotated[float, Field(gt=0, le=86400)]
"""A duration in seconds, above 0, at most a day."""
Networks = Annotated[
    tuple[IPv4Network | IPv6Network, ...], NoDecode, BeforeValidator(_parse_networks)
]
"""IP addresses or networks, separated by commas."""
Origins = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_parse_origins)]
"""Origins of web pages, such as ``https://app.example``, separated by commas."""
LogFormat = Annotated[Literal["json", "text"], BeforeValidator(_lowercase)]
"""``json`` or ``text``, in any case."""
LogLevel = Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lowercase)]
WorkerCount = Annotated[int, Field(ge=1, le=MAX_WORKERS), BeforeValidator(_parse_worker_count)]
"""A number of processes; ``auto`` is one for each CPU that this process may use."""
MemorySize = Annotated[ByteSize, Field(ge=0), AfterValidator(_zero_or_at_least_one_mebibyte)]
"""Bytes, with a unit such as ``512MiB`` or ``2GB``: 0, or at least ``1MiB``."""
HangTimeout = Annotated[Seconds, AfterValidator(_zero_or_at_least_one_second)]
"""Seconds: 0, or at least 1."""


class ControlSettings(NamedTuple):
    """What a command needs to know to find the running service."""

    admin_port: int
    control_socket: Path | None


class EnvironmentSettings(BaseSettings):
    """Reads variables, and says what is wrong with them."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=ENV_FILE,
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        # The validators of this base class are never needed, only those of the service's own.
        defer_build=True,
    )

    @classmethod
    def _read(cls, find_malformed: Callable[[], list[str]] = list) -> Self:
        """Read the settings, and call `find_malformed` for other errors. Raises `SettingsError`."""
        lines = []
        try:
            lines += find_malformed()
            settings = cls()
            if not lines:
                return settings
        except ValidationError as error:
            lines += [cls._format_error(detail) for detail in error.errors(include_url=False)]
        except DecodingError as error:
            lines += [_format_decoding_error(error)]
        except (OSError, UnicodeDecodeError) as error:
            lines += [f"{ENV_FILE} cannot be read: {error}"]
        raise SettingsError("\n".join(["Bad settings:", *(f"  {line}" for line in lines)]))

    @classmethod
    def _format_error(cls, detail: ErrorDetails) -> str:
        message = detail["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
        if message[1:2].islower():  # not URL, nor APP_
            message = message[0].lower() + message[1:]
        if not detail["loc"]:
            # From a validator of the whole model. Its input is all values: never show that.
            return message
        name, *path = map(str, detail["loc"])
        field = cls.model_fields.get(name)
        # A field with an alias is reported under that, which is the name of the variable.
        variable = ", ".join([PREFIX + name.upper() if field else name, *path])
        if detail["type"] == "missing" and not path:
            return f"{variable}: is required and has no default"
        # A text, a URL or a structure may contain secrets.
        if path or not isinstance(detail["input"], str) or (field and _is_text(field.annotation)):
            return f"{variable}: {message}"
        return f"{variable}: {message}, got {_redact(detail['input'])}"


class Settings(EnvironmentSettings):
    """Base class of the settings: what the runtime needs. A service adds its own fields.

    The field ``price_list`` is the variable APP_PRICE_LIST. A secret has the type
    `pydantic.SecretStr` and is masked wherever settings are shown. A list, a dict or a model is
    written as JSON. ::

        class Settings(runtime.Settings):
            price_list: HttpUrl
            api_key: SecretStr | None = None

    Raises `pydantic.ValidationError` when it is constructed with invalid values; `load` turns
    that into a `SettingsError` that a person can read.
    """

    address: IPvAnyAddress = IPv4Address("127.0.0.1")
    port: Port = 8000
    workers: WorkerCount = 1
    port_per_worker: bool = False
    admin_address: IPvAnyAddress = IPv4Address("127.0.0.1")
    admin_port: Port = 9000
    control_socket: Path | None = None
    log_level: LogLevel = "info"
    log_format: LogFormat = "json"
    log_file: Path | None = None
    drain_delay: Seconds = 0
    drain_timeout: Seconds = 25
    start_timeout: Timeout = 60
    hang_timeout: HangTimeout = 30
    max_memory: MemorySize = ByteSize(0)
    max_requests: Annotated[int, Field(ge=0)] = 0
    idle_timeout: Timeout = 75
    body_timeout: Timeout = 30
    max_body_size: Annotated[int, Field(ge=1)] = 1048576
    trusted_proxies: Networks = ()
    cors_origins: Origins = ()
    threads: Annotated[int, Field(ge=1, le=1000)] = 8
    debug: bool = False

    @classmethod
    def load(cls) -> Self:
        """Read the settings. Raises `SettingsError` with every invalid key in one message."""
        return cls._read(_malformed_lines)

    @classmethod
    def load_control(cls) -> ControlSettings:
        """Read what finds the control socket, and nothing else: the rest may be invalid.

        The defaults are those of this class. Raises `SettingsError`.
        """
        own = cls.model_fields
        fields: Any = {name: (own[name].annotation, own[name]) for name in ControlSettings._fields}
        model: type[EnvironmentSettings] = create_model(
            cls.__name__, __base__=EnvironmentSettings, **fields
        )
        return ControlSettings(**model._read().model_dump())

    @classmethod
    def unknown_variables(cls) -> list[str]:
        """Describe the APP_ variables that match no setting: most likely typos."""
        known = [_variable(name, field).upper() for name, field in cls.model_fields.items()]
        variables = {name.upper() for name in [*os.environ, *dotenv_values(ENV_FILE)]}
        descriptions = []
        for name in sorted(variables.difference(known)):
            if name.startswith(PREFIX):
                matches = difflib.get_close_matches(name, known, n=1)
                hint = f", did you mean {matches[0]}?" if matches else ""
                descriptions.append(f"{name} is not a setting{hint}")
        return descriptions

    def as_variables(self) -> dict[str, str]:
        """Return the variables that mean these settings, with secrets masked."""
        values = self.model_dump(mode="json")
        return {
            _variable(name, field): _format_value(values[name], NoDecode not in field.metadata)
            for name, field in type(self).model_fields.items()
        }

    @property
    def worker_limits(self) -> list[str]:
        """The variables of the limits of one worker that are in use."""
        limits = {"max_memory": self.max_memory, "max_requests": self.max_requests}
        return [PREFIX + name.upper() for name, value in limits.items() if value]

    def keep_from_start(self, started: "Settings") -> Self:
        """Return these settings, but for those that take a restart: they stay as at the start."""
        return self.model_copy(update={name: getattr(started, name) for name in RESTART_REQUIRED})

    def restart_required(self, after: "Settings") -> list[str]:
        """Return the variables that have changed and take effect only after a restart."""
        old, new = self.model_dump(), after.model_dump()
        return [
            PREFIX + name.upper()
            for name in old
            if name in RESTART_REQUIRED and old[name] != new[name]
        ]

    @field_validator("port_per_worker")
    @classmethod
    def _port_range_fits(cls, enabled: bool, info: ValidationInfo) -> bool:
        ports = _public_ports(info.data | {"port_per_worker": enabled})
        if enabled and 0 in ports:
            raise ValueError(f"needs a number as {PREFIX}PORT that is not 0")
        if MAX_PORT + 1 in ports:
            raise ValueError(f"needs ports up to {ports[-1]}, but the last one is {MAX_PORT}")
        return enabled

    @field_validator("admin_port")
    @classmethod
    def _differs_from_public_ports(cls, port: int, info: ValidationInfo) -> int:
        # Port 0 asks the system for a free port, so two of them never clash.
        if port and port in _public_ports(info.data):
            raise ValueError(f"must differ from {PREFIX}PORT and from the ports of the workers")
        return port


def _is_text(annotation: Any) -> bool:
    """Return whether a value of this type is a text of any kind, such as a secret or a URL."""
    if isinstance(annotation, type):
        is_text = issubclass(annotation, str | bytes | Secret | SecretStr | SecretBytes)
        return is_text or annotation.__name__.endswith(("Url", "Dsn"))
    return any(map(_is_text, get_args(annotation)))


def _variable(name: str, field: FieldInfo) -> str:
    alias = field.validation_alias
    return alias if isinstance(alias, str) else PREFIX + name.upper()


def _format_decoding_error(error: DecodingError) -> str:
    # Raised for the first variable that is not the JSON that its field needs, such as a list.
    [name] = re.findall(r'field "(\w+)"', str(error))
    return f"{PREFIX}{name.upper()}: is not valid JSON"


def _format_value(value: object, as_json: bool) -> str:
    """Format a value as it is written in the environment."""
    if isinstance(value, str):
        return _mask_url(value)
    if isinstance(value, list | dict):
        return _mask_url(json.dumps(value)) if as_json else ",".join(map(str, value))
    return "" if value is None else str(value).lower().removesuffix(".0")


def _mask_url(text: str) -> str:
    """Mask the credentials and the query of every URL in a text."""
    text = re.sub(r"://[^\s/\"]*@", "://***@", text)
    return re.sub(r"(://[^\s?\"]*)\?[^\s\"]*", r"\1?***", text)


def _redact(text: str) -> str:
    # A URL may contain credentials, scheme://user:password@host or host?key=..., and any value may
    # have been assigned to the wrong key.
    return re.sub(r"\?.*(?=['\"])", "?***", re.sub(r":.*@", "://***@", repr(text)))


def _public_ports(data: dict[str, Any]) -> range:
    """Return the public ports; empty if the settings behind them are invalid."""
    if not {"port", "workers", "port_per_worker"} <= data.keys():
        return range(0)
    return range(data["port"], data["port"] + (data["workers"] if data["port_per_worker"] else 1))


def _malformed_lines() -> list[str]:
    if not Path(ENV_FILE).is_file():
        return []
    with open(ENV_FILE, encoding="utf-8") as file:
        return [
            f"{ENV_FILE}, line {binding.original.line}: not of the form NAME=value"
            for binding in parse_stream(file)
            if binding.error
        ]


"""``debug``, ``info``, ``warning`` or ``error``, in any case."""
