"""Silences logs of libraries: what they log of an error, a command reports in its own words."""

import logging


def quiet_logs(*names: str) -> None:
    """From now until the process ends these loggers write critical lines only.

    To the end: clients that a failed command left behind are collected, and log it, later.
    """
    for name in names:
        logging.getLogger(name).setLevel(logging.CRITICAL)
