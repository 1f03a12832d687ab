"""The projection: where it is in PostgreSQL, and its projectors."""

from pydantic import Field
from pydantic_settings import BaseSettings


class ProjectionSettings(BaseSettings):
    """The settings of the projection; DATABASE_URL is needed as well."""

    projection_schema: str = Field(
        validation_alias="BILLING_PROJECTION_SCHEMA",
        description="schema of the projection's tables",
        default="public",
        pattern=r"^[a-z_][a-z0-9_]{0,47}$",
    )
    reader_role: str | None = Field(
        validation_alias="BILLING_READER_ROLE",
        description="role of PostgreSQL that the projector lets read the projection, for the "
        "DATABASE_URL of workers",
        default=None,
        pattern=r"^[A-Za-z_][A-Za-z0-9_-]{0,62}$",
    )
    projector_port: int = Field(
        validation_alias="BILLING_PROJECTOR_PORT",
        description="HTTP port of this projector: /metrics, /health, /ready",
        default=9108,
        ge=1,
        le=65535,
    )
    projector_group: str | None = Field(
        validation_alias="BILLING_PROJECTOR_GROUP",
        description="consumer group of the projectors of one database; by default named after "
        "the app",
        default=None,
        pattern=r"^[A-Za-z0-9._-]{1,100}$",
    )
