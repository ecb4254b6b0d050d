"""The settings of this service. `.env.example` explains each one."""

from typing import Annotated

from pydantic import Field, SecretStr

from . import runtime
from .runtime.settings import WorkerCount


class Settings(runtime.Settings):
    """Add a setting here and in `.env.example`. A secret has the type `pydantic.SecretStr`."""

    workers: WorkerCount = 4

    # Your own settings. The field price_list is the variable APP_PRICE_LIST.
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] = "EUR"
    max_quantity: Annotated[int, Field(ge=1)] = 100
    orders_key: SecretStr | None = None
