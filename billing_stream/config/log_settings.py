"""What is logged, and in which form."""

from enum import StrEnum

from pydantic import Field
from pydantic_settings import BaseSettings


class LogFormat(StrEnum):
    """How a log line is written."""

    CONSOLE = "console"
    JSON = "json"


class LogSettings(BaseSettings):
    """The log of every process."""

    log_level: str = Field(
        validation_alias="BILLING_LOG_LEVEL",
        description="DEBUG, INFO, WARNING or ERROR",
        default="INFO",
        pattern="^(DEBUG|INFO|WARNING|ERROR)$",
    )
    log_format: LogFormat = Field(
        validation_alias="BILLING_LOG_FORMAT",
        description="console (to read) or json (one object a line, for a log collector)",
        default=LogFormat.CONSOLE,
    )
