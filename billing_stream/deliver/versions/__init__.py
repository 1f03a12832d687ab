"""The versions of the tables of outgoing webhooks."""
