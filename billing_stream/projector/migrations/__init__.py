"""Versioned migrations of the projection's schema, for Alembic."""
