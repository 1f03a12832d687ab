"""Asks platforms about unpaid purchases: a webhook may be lost (docs/reconciliation.md)."""
