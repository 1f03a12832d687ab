"""The payment platforms, asked over real HTTP, and their webhooks."""
