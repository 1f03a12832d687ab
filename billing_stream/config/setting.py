"""How a setting is declared, and the forms that several of them have."""

from typing import Annotated, Any

from pydantic import Field, SecretStr

Count = Annotated[int, Field(ge=1, le=100_000)]
Port = Annotated[int, Field(ge=1, le=65_535)]
CurrencyCode = Annotated[str, Field(pattern="^[A-Z]{3}$")]
HttpUrl = Annotated[str, Field(pattern=r"^https?://[^\s]+$")]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,100}$")]
LongSecret = Annotated[SecretStr, Field(min_length=32)]


def setting(variable: str, description: str, default: Any = None, **limits: Any) -> Any:
    """A field that is read from `variable`; `limits` as of `Field`."""
    return Field(default, validation_alias=variable, description=description, **limits)


def required(variable: str, description: str, **limits: Any) -> Any:
    """A field without a default."""
    return setting(variable, description, ..., **limits)
