"""One agent per input: bytes in, lane out. Nothing is decided here, nothing raised."""
