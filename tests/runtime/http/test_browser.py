"""What a real browser makes of pages, their headers, streams of events, and CORS."""

import asyncio
from http.client import responses
from pathlib import Path

import pytest
from runtime.settings import Settings
from runtime.testing import Client, serving

from ...chromium import START_TIMEOUT, started
from ..apps.pages.app import REPORTS, make_api, make_app
from ..apps.pages.app import Settings as PageSettings

PUBLIC_HOST = "page.example"
"""A host that is not local: without TLS browsers do not trust it, and send no Sec-Fetch-Site."""


async def report(pages: Client, url: str, folder: Path) -> dict[str, str]:
    """Open a page and return what its script reports."""
    rules = f"--host-resolver-rules=MAP {PUBLIC_HOST} 127.0.0.1"
    async with started(folder, rules, url), asyncio.timeout(START_TIMEOUT):
        return await pages.app.resources[REPORTS].get()


async def test_page_with_style_script_image_and_form_works(tmp_path: Path) -> None:
    async with serving(make_app(PageSettings())) as pages:
        found = await report(pages, f"http://{PUBLIC_HOST}:{pages.port}/name", tmp_path)
    assert found == {
        "name": "Ada",
        "color": "rgb(1, 2, 3)",
        "imageWidth": "7",
        "inlineScript": "undefined",
        "cookie": "false",
    }


async def test_stream_of_events_goes_on_after_the_last_one(tmp_path: Path) -> None:
    async with serving(make_app(PageSettings())) as pages:
        found = await report(pages, f"http://{PUBLIC_HOST}:{pages.port}/live", tmp_path)
    assert found == {
        "\N{EURO SIGN}": "message: two\nlines",
        "2": "kind: end",
        # After it was cut, and when it had ended; then it got 404.
        "errors": "again, again, closed",
    }


REFUSED = "TypeError"
"""What ``fetch`` raises if a script may not read the response."""


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        (
            "localhost",
            {
                "get": "200 all true",
                "post": "201 Ada true",
                "notFound": "404 Not Found true",
                "broken": "500 Internal Server Error true",
                "tooLarge": f"413 {responses[413]} true",
                "methodNotThere": REFUSED,
                "withCookies": REFUSED,
            },
        ),
        (
            "127.0.0.1",
            dict.fromkeys(
                ["get", "post", "notFound", "broken", "tooLarge", "methodNotThere", "withCookies"],
                REFUSED,
            ),
        ),
    ],
    ids=["allowed", "another"],
)
async def test_script_of_another_origin(
    origin: str, expected: dict[str, str], tmp_path: Path
) -> None:
    async with serving(make_app(PageSettings())) as pages:
        allowed = f"http://localhost:{pages.port}"
        async with serving(make_api(Settings(cors_origins=(allowed,), max_body_size=1000))) as api:
            url = f"http://{origin}:{pages.port}/frontend/{api.port}"
            assert await report(pages, url, tmp_path) == expected
