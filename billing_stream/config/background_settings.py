"""The settings of processes that serve no client and ask no platform."""

from typing import Any, ClassVar

from pydantic import Field, SecretStr

from billing_stream.config.settings import Settings


def _optional(name: str) -> Any:
    none = SecretStr("")
    return Field(validation_alias=name, default=none, validate_default=False, min_length=32)


class BackgroundSettings(Settings):
    """Of projectors and commands: they need no secret of clients, workers or platforms.

    Those that are given must be right all the same.
    """

    serves_clients: ClassVar[bool] = False

    client_jwt_secret: SecretStr = _optional("CLIENT_JWT_SECRET")
    internal_jwt_secret: SecretStr = _optional("INTERNAL_JWT_SECRET")
