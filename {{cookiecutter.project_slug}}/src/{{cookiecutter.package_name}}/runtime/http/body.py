"""JSON bodies: parsed, checked, and refused with all that is wrong."""

from typing import Self

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError
from tornado.httputil import HTTPServerRequest

from .handler import Problem

MAX_ERRORS = 100
"""Errors that an answer lists; a body can have a hundred thousand."""


class Body(BaseModel):
    """Base of the JSON bodies that handlers take. Unknown members are an error: most are typos."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def read(cls, request: HTTPServerRequest) -> Self:
        """Read the body of a request. Raises `Problem` 400, 415 or 422."""
        media_type = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if media_type != "application/json" or "Content-Encoding" in request.headers:
            raise Problem(415, "The body must be application/json, not compressed.")
        try:
            return cls.of(orjson.loads(request.body))
        except orjson.JSONDecodeError as error:
            raise Problem(400, f"The body is not JSON: {error}.") from None

    @classmethod
    def of(cls, data: object) -> Self:
        """Check data from outside. Raises `Problem` 422 that lists all that is wrong."""
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            if error.error_count() > MAX_ERRORS:
                raise Problem(422, f"{error.error_count()} things are wrong.") from None
            errors = [
                {"pointer": "".join(map(_token, detail["loc"])), "detail": detail["msg"]}
                for detail in error.errors(include_url=False, include_input=False)
            ]
            raise Problem(422, errors=errors) from None


def _token(part: int | str) -> str:
    return "/" + str(part).replace("~", "~0").replace("/", "~1")
