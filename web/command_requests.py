"""How a client's command reaches the lane of its merchant, here or on another worker."""

from datetime import timedelta

import msgspec
from msgspec import Struct

from billing_stream.domain.commands import AdjustCredits, AdvanceClock, ReservePurchase, StartTrial
from billing_stream.domain.outcomes import TimedReply
from billing_stream.web.checkouts import Checkouts
from billing_stream.web.envelope import Ids
from billing_stream.web.owners import PartitionRouter
from billing_stream.web.peers import Peers, outcome_unknown

COMMANDS_PATH = "/internal/commands"
# Origins in the journal.
CLIENTS = "http"
OPERATORS = "operator:"


class CommandRequest(Struct, frozen=True):
    """What a client or an operator asks for; `shop_domain` is that of a client's token.

    `origin` is for the journal.
    """

    command: StartTrial | ReservePurchase | AdjustCredits | AdvanceClock
    shop_domain: str
    correlation_id: str
    origin: str = CLIENTS

    @property
    def operator(self) -> str | None:
        """Who asks for it, if it is an operator."""
        return self.origin.removeprefix(OPERATORS) if self.origin.startswith(OPERATORS) else None

    @property
    def is_operators(self) -> bool:
        """Whether operators give such a command, and not clients."""
        return isinstance(self.command, AdjustCredits | AdvanceClock)


_asked = msgspec.json.Decoder(CommandRequest)
_answered = msgspec.json.Decoder(TimedReply)


def parse_asked(body: bytes) -> CommandRequest:
    """What a client asks for, as another worker sent it. Raises msgspec.DecodeError."""
    return _asked.decode(body)


class Commands:
    """Carries out what clients ask for."""

    def __init__(
        self, owners: PartitionRouter, peers: Peers, checkouts: Checkouts, deadline: timedelta
    ) -> None:
        self._owners = owners
        self._peers = peers
        self._checkouts = checkouts
        self._seconds = deadline.total_seconds()

    async def carry_out(self, asked: CommandRequest, ids: Ids) -> TimedReply:
        """The answer, when what it says is committed.

        Raises ApiError: NOT_READY when nothing was done; OUTCOME_UNKNOWN when something may
        have been, or may be still.
        """
        partition = self._owners.partition_of(asked.command.merchant_id)
        if self._owners.lane_here(partition) is not None:
            return await self.carry_out_here(asked)
        body = await self._peers.ask(
            "POST",
            partition,
            COMMANDS_PATH,
            ids,
            self._seconds,
            body=msgspec.json.encode(asked),
            operator=asked.operator,
        )
        try:
            return _answered.decode(body)
        except msgspec.DecodeError as error:
            self._peers.not_understood(partition, error)
            raise outcome_unknown("the answer is not understood") from None

    async def carry_out_here(self, asked: CommandRequest) -> TimedReply:
        """As `carry_out`, on the worker that owns the merchant; it is never sent on."""
        command = asked.command
        if isinstance(command, ReservePurchase):
            return await self._checkouts.open(command, asked.shop_domain, asked.correlation_id)
        return await self._owners.commit_locally(command, asked.correlation_id, asked.origin)
