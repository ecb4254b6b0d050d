import importlib
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from runtime import Application, Extension, ServiceInfo, Settings, StartupError
from runtime.process.definition import REVISION, ServiceDefinition, log_start
from runtime.testing import Record

from ..apps.orders.settings import Settings as OrdersSettings
from ..support.messages import CANNOT_CREATE_APP

APP = f"{__name__}:make_app"
EXTENSIONS = (Extension(),)


def make_app(settings: Settings) -> Application:
    return Application(settings, [])


def fail(settings: Settings) -> Application:
    raise ValueError("no such thing")


def forget_to_return(settings: Settings) -> None:
    Application(settings, [])


def definition(app: str = APP, settings: str = "runtime.settings:Settings") -> ServiceDefinition:
    return ServiceDefinition("orders", ServiceInfo("orders", "1.7"), EXTENSIONS, settings, app)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a package that is installed, and has not been imported."""
    folder = tmp_path / "orders_of_test_definition"
    folder.mkdir()
    (folder / "__init__.py").write_text('__version__ = "1.8"\n')
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    sys.modules.pop(folder.name, None)


def info(package: Path) -> ServiceInfo:
    service = ServiceInfo("orders", "1.7")
    return ServiceDefinition(package.name, service, EXTENSIONS, "", "").read_info()


def test_version_is_that_of_the_package_once_it_is_imported(package: Path) -> None:
    assert info(package) == ServiceInfo("orders", "1.7", "")
    importlib.import_module(package.name)
    assert info(package) == ServiceInfo("orders", "1.8", "")


@pytest.mark.parametrize(
    ("content", "revision"),
    [
        (b"v1.7-3-g0123456789ab-dirty\n", "v1.7-3-g0123456789ab-dirty"),
        ("släpp-1".encode(), "släpp-1"),
        (b"\r\n", ""),
        (b"first\nsecond\n", "first"),
        (b"v1\x1b[31m\xff\x00\t2\n", "v1[31m2"),
        (b"x" * 10_000_000, "x" * 100),
    ],
)
def test_revision_is_one_short_printable_line(package: Path, content: bytes, revision: str) -> None:
    (package / REVISION).write_bytes(content)
    assert info(package).revision == revision


def test_revision_that_cannot_be_read_is_unknown(package: Path) -> None:
    (package / REVISION).mkdir()
    assert info(package).revision == ""
    assert info(Path("no_such_package")).revision == ""


def test_service_info_is_a_phrase() -> None:
    assert str(ServiceInfo("orders", "1.7")) == "orders 1.7"
    assert str(ServiceInfo("orders", "1.7", "v1.7-3")) == "orders 1.7, revision v1.7-3"


@pytest.mark.parametrize("revision", ["", "v1.7-3-g0123456789ab"])
def test_start_is_logged_with_versions(
    package: Path, log_records: list[Record], revision: str
) -> None:
    (package / REVISION).write_text(revision)
    service = ServiceInfo("orders", "1.7")
    log_start(ServiceDefinition(package.name, service, EXTENSIONS, "", "").read_info(), "0.4.0")
    [record] = log_records
    assert record["message"] == f"starting orders 1.7{revision and f', revision {revision}'}"
    fields = {
        "service.name": "orders",
        "service.version": "1.7",
        "vcs.ref.head.revision": revision,
        "template.version": "0.4.0",
        "process.runtime.version": platform.python_version(),
    }
    assert {name: record[name] for name in fields if name in record} == {
        name: value for name, value in fields.items() if value
    }


def test_settings_are_of_the_class_of_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_PRICE_LIST", "https://example.com/prices")
    service = definition(settings="tests.runtime.apps.orders.settings:Settings")
    settings = service.load_settings()
    assert isinstance(settings, OrdersSettings)
    assert str(settings.price_list) == "https://example.com/prices"


def test_code_is_imported_only_when_it_is_needed() -> None:
    service = definition("missing_module:make_app", "missing_module:Settings")
    with pytest.raises(ModuleNotFoundError, match="missing_module"):
        service.load_settings()
    with pytest.raises(StartupError, match=f"^{CANNOT_CREATE_APP}ModuleNotFoundError"):
        service.make_app(Settings())


def test_application_gets_the_settings_and_the_extensions() -> None:
    settings = Settings()
    application = definition().make_app(settings)
    assert application.config is settings
    assert application.hooks == EXTENSIONS


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("fail", ValueError),
        ("forget_to_return", AttributeError),
        ("missing_name", AttributeError),
    ],
)
def test_failure_is_a_startup_error_with_its_cause(name: str, error: type[Exception]) -> None:
    with pytest.raises(StartupError, match=f"^{CANNOT_CREATE_APP}{error.__name__}") as caught:
        definition(f"{__name__}:{name}").make_app(Settings())
    assert isinstance(caught.value.__cause__, error)
