"""Decides one merchant's recorded input and compares; runs beside the code of any revision."""
