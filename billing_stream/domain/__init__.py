"""The rules. Pure: no I/O, no clock, no randomness, nothing of Kafka, Faust or the web."""
