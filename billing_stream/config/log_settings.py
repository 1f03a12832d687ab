"""What logs contain, and in which form."""

from enum import StrEnum

from pydantic_settings import BaseSettings

from billing_stream.config.setting import setting


class LogFormat(StrEnum):
    """How a log line is written."""

    CONSOLE = "console"
    JSON = "json"


class LogSettings(BaseSettings):
    """The log of every process."""

    log_level: str = setting(
        "BILLING_LOG_LEVEL",
        "DEBUG, INFO, WARNING or ERROR",
        "INFO",
        pattern="^(DEBUG|INFO|WARNING|ERROR)$",
    )
    log_format: LogFormat = setting(
        "BILLING_LOG_FORMAT",
        "`console`, or `json`: one object per line",
        LogFormat.CONSOLE,
    )
