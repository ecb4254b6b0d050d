"""The health check of a container, which imports nothing of the service."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from runtime import Settings, healthcheck
from runtime.testing import Client

from .support.fakes import FakeStatus


async def run(*options: str) -> subprocess.CompletedProcess[str]:
    """Run the file as a container does."""
    command = [sys.executable, "-IS", *options, healthcheck.__file__]
    return await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, check=False
    )


async def test_exit_code_tells_readiness(admin: Client, status: FakeStatus, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"APP_WORKERS=4\nAPP_ADMIN_PORT = '{admin.port}'  # health\n")
    assert (await run()).returncode == 0
    status.reasons += ["draining"]
    done = await run()
    assert done.returncode == 1
    assert "draining" in done.stdout


async def test_environment_wins_over_the_file(
    admin: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("APP_ADMIN_ADDRESS=192.0.2.1\nAPP_ADMIN_PORT=9\n")
    monkeypatch.setenv("APP_ADMIN_ADDRESS", "0.0.0.0")
    monkeypatch.setenv("APP_ADMIN_PORT", str(admin.port))
    assert (await run()).returncode == 0


@pytest.mark.parametrize(
    "line",
    [
        "APP_ADMIN_PORT=",
        "APP_ADMIN_PORT = 9100\t# health",
        "export APP_ADMIN_PORT=9100",
        "app_admin_port=9100",
        "# APP_ADMIN_PORT=9100",
    ],
)
def test_port_is_that_of_the_settings(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text(f"{line}\n")
    asked: list[int] = []
    monkeypatch.setattr(healthcheck, "check", lambda _, port: asked.append(port))
    healthcheck.main()
    assert asked == [Settings.load().admin_port]


def test_defaults_are_those_of_the_settings() -> None:
    settings = Settings().as_variables()
    assert {name: settings[name] for name in healthcheck.DEFAULTS} == healthcheck.DEFAULTS


async def test_nothing_but_the_standard_library_is_imported(
    admin: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APP_ADMIN_PORT", str(admin.port))
    shown = (await run("-X", "importtime")).stderr.splitlines()
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in shown}
    assert "http" in imported
    unknown = imported - set(sys.stdlib_module_names) - {"package", "imported package"}
    assert {name for name in unknown if not name.startswith("_")} == set()
