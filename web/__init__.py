"""The HTTP API: the client, the merchant of its shop, the owner, and the answer."""
