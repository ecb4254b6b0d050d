"""The slowest requests are logged at the end, the slowest one first."""

from typing import Any

import pytest
from runtime.errors import StartupError
from runtime.settings import Settings
from runtime.slowest import Slowest
from runtime.testing import serving

from ..support.sample_app import make_app


async def slowest(log_records: list[dict[str, Any]], requests: int) -> list[str]:
    async with serving(make_app(Settings()), extensions=[Slowest()]) as client:
        for number in range(requests):
            await client.get(f"/nowhere/{number}")
    messages = [record["message"] for record in log_records]
    return [message for message in messages if message.startswith("slowest: GET /nowhere/")]


async def test_three_requests_are_logged(log_records: list[dict[str, Any]]) -> None:
    seconds = [float(line.split()[-2]) for line in await slowest(log_records, 5)]
    assert len(seconds) == 3
    assert seconds == sorted(seconds, reverse=True)


async def test_number_is_a_variable(
    log_records: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLOWEST_COUNT", "1")
    assert len(await slowest(log_records, 2)) == 1


@pytest.mark.parametrize("text", ["0", "-1", "many", "²"])
async def test_bad_number_stops_the_start(
    log_records: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("SLOWEST_COUNT", text)
    with pytest.raises(StartupError, match="SLOWEST_COUNT"):
        await slowest(log_records, 0)
