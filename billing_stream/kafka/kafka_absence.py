"""Reports in plain words that no broker answers, instead of what each client makes of it."""

import asyncio
import logging
from collections.abc import Callable

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.5


class KafkaAbsence:
    """`ask` gives since when no broker answers, and why; None while one does."""

    def __init__(self, ask: Callable[[], str | None], consequence: str) -> None:
        self._ask = ask
        self._consequence = consequence

    def problems(self) -> list[str]:
        """One problem while Kafka is away, none otherwise."""
        found = self._ask()
        return [] if found is None else [found]

    async def watch(self) -> None:
        """Log each absence when it begins and when it ends, until cancelled."""
        away = False
        while True:
            found = self._ask()
            if found is not None and not away:
                logger.warning("%s. %s", found, self._consequence)
            elif found is None and away:
                logger.info("Kafka answers again")
            away = found is not None
            await asyncio.sleep(LOOK_SECONDS)
