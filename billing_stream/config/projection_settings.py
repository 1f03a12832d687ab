"""The projection: where it is in PostgreSQL, and its projectors."""

from pydantic_settings import BaseSettings

from billing_stream.config.setting import Name, Port, setting


class ProjectionSettings(BaseSettings):
    """The settings of the projection; DATABASE_URL is needed as well."""

    projection_schema: str = setting(
        "BILLING_PROJECTION_SCHEMA",
        "schema of the projection's tables",
        "public",
        pattern=r"^[a-z_][a-z0-9_]{0,47}$",
    )
    reader_role: str | None = setting(
        "BILLING_READER_ROLE",
        "PostgreSQL role that projectors let read the projection: that of workers",
        pattern=r"^[A-Za-z_][A-Za-z0-9_-]{0,62}$",
    )
    projector_port: Port = setting(
        "BILLING_PROJECTOR_PORT", "HTTP port of `billing-stream projector`", 9108
    )
    projector_group: Name | None = setting(
        "BILLING_PROJECTOR_GROUP",
        "consumer group of the projectors of one database; by default from BILLING_APP_ID",
    )
