"""JSON request bodies: parsing and validation."""

from typing import Self

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError
from tornado.httputil import HTTPServerRequest

from .problem import Problem

MAX_ERRORS = 100
"""Maximum number of errors in a response; a body can have a hundred thousand."""


class Body(BaseModel):
    """Base class of JSON request bodies: a pydantic model whose unknown fields are rejected.

    ::

        class Order(Body):
            item: str = Field(max_length=100)
            quantity: int = Field(default=1, ge=1)

        order = Order.from_request(self.request)   # in a handler

    As in pydantic, ``"3"`` is accepted as an integer unless the field is strict:
    ``Field(strict=True)``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def from_request(cls, request: HTTPServerRequest, *, context: object = None) -> Self:
        """Parse and validate the body of a request.

        `context` is what validators find as ``info.context``, such as the settings, for rules that
        depend on them. Raises `Problem` 415 unless the body is ``application/json`` and not
        compressed, 400 if it is not JSON, and 422 with all errors if it is not valid.
        """
        media_type = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if media_type != "application/json" or "Content-Encoding" in request.headers:
            raise Problem(415, "The body must be application/json, not compressed.")
        try:
            return cls.parse(orjson.loads(request.body), context=context)
        except orjson.JSONDecodeError as error:
            raise Problem(400, f"The body is not JSON: {error}.") from None

    @classmethod
    def parse(cls, data: object, *, context: object = None) -> Self:
        """Validate untrusted data, such as a part of the path. Raises `Problem` 422."""
        try:
            return cls.model_validate(data, context=context)
        except ValidationError as error:
            if error.error_count() > MAX_ERRORS:
                raise Problem(422, f"{error.error_count()} validation errors.") from None
            errors = [
                {"pointer": "".join(map(_token, detail["loc"])), "detail": detail["msg"]}
                for detail in error.errors(include_url=False, include_input=False)
            ]
            raise Problem(
                422, "The errors say what is wrong with which part.", errors=errors
            ) from None


def _token(part: int | str) -> str:
    # Source: RFC 6901, JSON Pointer.
    return "/" + str(part).replace("~", "~0").replace("/", "~1")
