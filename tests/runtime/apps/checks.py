"""Tests like those of a service, with the fixtures of `runtime.testing`."""

import os
from pathlib import Path
from urllib.request import getproxies_environment

from runtime import Settings
from runtime.testing import (
    ServiceStarter,
    clean_environment,
    log_records,
    start_service,
)

from tests.runtime.support import SAMPLE_APP

__all__ = ["clean_environment", "log_records", "start_service"]


def test_settings_are_the_defaults(tmp_path: Path) -> None:
    assert Settings.load() == Settings()
    assert not [name for name in os.environ if name.upper().startswith("APP_")]
    assert Path.cwd() == tmp_path


def test_requests_go_through_no_proxy() -> None:
    assert getproxies_environment() == {}


def test_process_is_left_running(start_service: ServiceStarter) -> None:
    process = start_service(SAMPLE_APP)
    Path(os.environ["PID_FILE"]).write_text(str(process.pid))
    os.kill(process.pid, 0)
