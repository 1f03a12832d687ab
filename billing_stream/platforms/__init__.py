"""Where merchants pay: one small protocol, an adapter per platform, a local stand-in."""
