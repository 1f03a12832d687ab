"""A worker on a machine whose clock is days ahead."""

import sys
from datetime import datetime, timedelta

from billing_stream import app
from billing_stream.config.settings import Settings
from billing_stream.engine.broker_time import BrokerTime
from billing_stream.records.timestamps import utc_now
from billing_stream.worker import run_worker


def set_ahead(by: timedelta) -> None:
    """Have the clock of this machine be ahead."""

    class WrongClock(BrokerTime):
        def __init__(self) -> None:
            super().__init__(wall)

    def wall() -> datetime:
        return utc_now() + by

    vars(app)["BrokerTime"] = WrongClock


if __name__ == "__main__":
    set_ahead(timedelta(days=int(sys.argv[1])))
    run_worker(Settings.from_env())
