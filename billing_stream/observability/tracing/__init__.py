"""Traces for a collector of OpenTelemetry. Off by default, and then nothing of this is loaded."""
