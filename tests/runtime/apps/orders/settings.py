from typing import Annotated, Self

import runtime
from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    HttpUrl,
    PostgresDsn,
    SecretStr,
    field_validator,
    model_validator,
)


def _not_on_strike(value: str) -> str:
    assert value != "strike", "The warehouse is on strike"
    return value


class Warehouse(BaseModel):
    city: str
    door_code: int


class Settings(runtime.Settings):
    price_list: HttpUrl
    api_key: Annotated[SecretStr, Field(min_length=20)] | None = None
    min_items: int = 1
    max_items: int = 100
    discount: float = 0.25
    currencies: list[str] = Field(["EUR"])
    carrier: Annotated[str, AfterValidator(_not_on_strike)] = "Post"
    warehouse: Warehouse | None = None
    database: Annotated[PostgresDsn | None, Field(validation_alias="DATABASE_URL")] = None

    @field_validator("discount")
    @classmethod
    def _discount_is_a_fraction(cls, discount: float) -> float:
        if discount >= 1:
            raise ValueError("must be below 1")
        return discount

    @model_validator(mode="after")
    def _some_number_of_items_is_allowed(self) -> Self:
        if self.min_items > self.max_items:
            raise ValueError("APP_MIN_ITEMS must not exceed APP_MAX_ITEMS")
        return self
