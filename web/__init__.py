"""The HTTP API: who asks, whose shop it is, which worker knows, and the answer."""
