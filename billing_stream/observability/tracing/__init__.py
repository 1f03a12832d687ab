"""Traces for a collector of OpenTelemetry. Off by default, and then nothing of this is loaded.

spans.py    what the web and the lanes want of it; knows no OpenTelemetry
stage.py    a transaction whose commands are traced
otel.py     the spans themselves; imports OpenTelemetry
factory.py  makes it of the settings, or says what is missing
"""
