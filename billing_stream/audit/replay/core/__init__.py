"""Decides one merchant's recorded input and compares; runs next to the code of any revision."""
