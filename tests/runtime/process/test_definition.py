import pytest
from runtime import Application, Extension, ServiceInfo, Settings, StartupError
from runtime.process.definition import ServiceDefinition

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
