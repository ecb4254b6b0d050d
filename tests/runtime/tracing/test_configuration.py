"""OpenTelemetry's variables, in the environment and in `.env`."""

import os
import signal
from pathlib import Path

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from runtime.errors import StartupError
from runtime.extensions import ServiceInfo
from runtime.settings import ENV_FILE, Settings
from runtime.testing import Record, ServiceStarter
from runtime.tracing import Tracing
from runtime.tracing.exporter import collector_url

from ..support.collector import running_collector
from ..support.connections import RawConnection
from ..support.spans import only_span
from .conftest import Traced

TRACED_APP = "tests.runtime.apps.traced"
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
TRACES_ENDPOINT = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
PROTOCOL = "OTEL_EXPORTER_OTLP_PROTOCOL"
TRACES_PROTOCOL = "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"


async def start_and_stop() -> None:
    async with Tracing().lifespan(ServiceInfo("orders", "1.0"), Settings()):
        pass


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, ""),
        ({ENDPOINT: ""}, ""),
        ({ENDPOINT: " "}, ""),
        ({ENDPOINT: "http://127.0.0.1:4318"}, "http://127.0.0.1:4318/v1/traces"),
        ({ENDPOINT: " https://shop/base/ "}, "https://shop/base/v1/traces"),
        ({ENDPOINT: "http://[::1]"}, "http://[::1]/v1/traces"),
        ({TRACES_ENDPOINT: "http://shop:4318/spans"}, "http://shop:4318/spans"),
        ({TRACES_ENDPOINT: "", ENDPOINT: "http://shop"}, "http://shop/v1/traces"),
        ({TRACES_ENDPOINT: "http://shop/", ENDPOINT: "http://elsewhere"}, "http://shop/"),
        ({ENDPOINT: "http://shop", "OTEL_TRACES_EXPORTER": "none"}, ""),
        ({TRACES_ENDPOINT: "http://shop", "OTEL_TRACES_EXPORTER": "OTLP"}, "http://shop"),
        ({TRACES_ENDPOINT: "http://shop", PROTOCOL: "http/protobuf"}, "http://shop"),
        ({PROTOCOL: "grpc"}, ""),
        (
            {TRACES_ENDPOINT: "http://shop", PROTOCOL: "grpc", TRACES_PROTOCOL: "http/protobuf"},
            "http://shop",
        ),
    ],
)
def test_endpoint(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert collector_url() == expected


@pytest.mark.parametrize("name", [ENDPOINT, TRACES_ENDPOINT])
@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:4318",
        "ftp://collector",
        "http://",
        "http://ada:hunter2",
        "http://collector:0",
        "http://ada:hunter2@collector",
        "http:/ada:hunter2@collector",
        "ada:hunter2@collector",
        "https://collector?key=hunter2",
        "https://collector/#hunter2",
        "http://[hunter2",
    ],
)
async def test_bad_endpoint_is_a_startup_error_without_the_value(
    monkeypatch: pytest.MonkeyPatch, log_records: list[Record], name: str, url: str
) -> None:
    monkeypatch.setenv(name, url)
    with pytest.raises(StartupError, match=f"OTEL_ variables: {name} must be a URL ") as caught:
        await start_and_stop()
    assert "hunter2" not in f"{caught.value}{log_records}"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_BSP_MAX_QUEUE_SIZE", "many"),
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "-1"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=b, authorization: hunter2"),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "hunter2"),
        (PROTOCOL, "grpc"),
        (TRACES_PROTOCOL, "http/json"),
        ("OTEL_TRACES_EXPORTER", "zipkin"),
    ],
)
async def test_invalid_variable_is_a_startup_error(
    monkeypatch: pytest.MonkeyPatch, log_records: list[Record], name: str, value: str
) -> None:
    monkeypatch.setenv(ENDPOINT, "http://127.0.0.1:4318")
    monkeypatch.setenv(name, value)
    with pytest.raises(StartupError, match="cannot start tracing, see the OTEL_ var") as caught:
        await start_and_stop()
    assert "hunter2" not in f"{caught.value}{log_records}"


@pytest.mark.parametrize("value", ["", "a=b", "a=b, authorization=Bearer%20c=,"])
async def test_valid_headers_are_accepted(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(ENDPOINT, "http://127.0.0.1:4318")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", value)
    await start_and_stop()


async def test_resource_is_the_service(traced: Traced, exporter: InMemorySpanExporter) -> None:
    async with traced() as client:
        await client.get("/items/cup")
    resource = only_span(exporter).resource.attributes
    assert (resource["service.name"], resource["service.version"]) == ("test", "0")


async def test_environment_names_the_resource(
    traced: Traced, exporter: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "shop")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=staging")
    async with traced() as client:
        await client.get("/items/cup")
    resource = only_span(exporter).resource.attributes
    assert resource["service.name"] == "shop"
    assert resource["deployment.environment.name"] == "staging"


async def test_environment_sets_the_sampler(
    traced: Traced, exporter: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    async with traced() as client:
        await client.get("/items/cup")
    assert exporter.get_finished_spans() == ()


async def test_environment_turns_tracing_off(
    traced: Traced, exporter: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    async with traced() as client:
        assert (await client.get("/items/cup")).code == 200
    assert exporter.get_finished_spans() == ()


async def test_env_file_counts_and_the_environment_wins(
    traced: Traced,
    exporter: InMemorySpanExporter,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    attributes = "OTEL_RESOURCE_ATTRIBUTES"
    lines = ["OTEL_SERVICE_NAME=from-env-file", f"{attributes}=origin=env-file", "OTHER=1"]
    (tmp_path / ENV_FILE).write_text("\n".join(lines))
    monkeypatch.setenv("OTEL_SERVICE_NAME", "from-environment")
    monkeypatch.setenv(attributes, "")
    before = dict(os.environ)
    async with traced() as client:
        # A process that is started here does not take them for values of the environment.
        assert {name: value for name, value in os.environ.items() if value} == {
            name: value for name, value in before.items() if value
        }
        await client.get("/items/cup")
    resource = only_span(exporter).resource.attributes
    assert resource["service.name"] == "from-environment"
    assert resource["origin"] == "env-file"


async def test_bad_endpoint_in_env_file_stops_the_start_with_one_line(
    start_service: ServiceStarter, tmp_path: Path
) -> None:
    (tmp_path / ENV_FILE).write_text(f"{ENDPOINT}=collector:4318")
    process = start_service(TRACED_APP)
    assert await process.exit_code() == 1
    [line] = process.errors().splitlines()
    assert line.startswith(f"cannot start tracing, see the OTEL_ variables: {ENDPOINT} must be")


async def test_workers_export_to_the_endpoint_in_env_file(
    start_service: ServiceStarter, tmp_path: Path
) -> None:
    async with running_collector() as collector:
        (tmp_path / ENV_FILE).write_text(f"{ENDPOINT}={collector.url}")
        process = start_service(TRACED_APP, workers=2)
        port, _ = await process.ports()
        for _ in range(5):
            async with RawConnection(port) as connection:
                assert (await connection.get("/items/cup")).status == 200
        process.send_signal(signal.SIGTERM)
        assert await process.exit_code() == 0
    assert collector.spans == 5 * ["GET /items/{name}"]
