"""The service as a whole, whatever its routes are."""

from http import HTTPStatus

import pytest

from {{ cookiecutter.package_name }}.runtime.testing import (
    Client,
    response_problem,
)


async def test_unknown_path_is_a_problem(client: Client) -> None:
    response = await client.get("/nowhere")
    assert response.code == HTTPStatus.NOT_FOUND
    response_problem(response)


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/workers"])
async def test_public_port_does_not_serve_the_admin_port(client: Client, path: str) -> None:
    assert (await client.get(path)).code == HTTPStatus.NOT_FOUND
