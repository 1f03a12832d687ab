"""Outgoing webhooks: billing's events, signed and delivered over HTTP to endpoints."""
