"""Requests between workers."""

from enum import StrEnum

from pydantic import field_validator
from pydantic_settings import BaseSettings

from billing_stream.config.peer_addresses import FORM, PeerAddresses
from billing_stream.config.setting import setting


class PeerTokens(StrEnum):
    """Which tokens workers make for each other and accept."""

    BOTH = "both"
    NEW = "new"


class PeerSettings(BaseSettings):
    """Which workers are asked, and with which tokens."""

    peers: str | None = setting(
        "BILLING_PEERS",
        f"addresses of workers: {FORM}; required in staging and production",
    )
    peer_tokens: PeerTokens = setting(
        "BILLING_PEER_TOKENS",
        "tokens between workers: `both` while workers of 0.5.x run, then `new`",
        PeerTokens.BOTH,
    )

    @field_validator("peers")
    @classmethod
    def _check_peers(cls, value: str | None) -> str | None:
        PeerAddresses(value)
        return value

    @property
    def peer_addresses(self) -> PeerAddresses:
        """The addresses that may be asked."""
        return PeerAddresses(self.peers)

    @property
    def old_peer_tokens(self) -> bool:
        """Whether workers of 0.5.x are among those of this cluster."""
        return self.peer_tokens is PeerTokens.BOTH
