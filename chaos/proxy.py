"""A TCP proxy between one worker and the broker, which can be made to misbehave."""

import asyncio
import contextlib
import socket
import struct
import time
from enum import StrEnum

CHUNK_BYTES = 1 << 16
CHUNKS_WAITING_MAX = 64
_LINGER_NOT = struct.pack("ii", 1, 0)


class Mode(StrEnum):
    """What the network does. `half_open`: open connections are dead, and nobody is told."""

    PASS = "pass"
    BLACKHOLE = "blackhole"
    DELAY = "delay"
    THROTTLE = "throttle"
    HALF_OPEN = "half_open"


class Connection:
    """Both ends of a connection, and whether it was cut off silently."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.client = client
        self.server = server
        self.dead = False

    def reset(self) -> None:
        """Both ends are told by RST."""
        for writer in (self.client, self.server):
            abort(writer)


def abort(writer: asyncio.StreamWriter) -> None:
    """Close with RST instead of FIN."""
    found = writer.get_extra_info("socket")
    # It may be closed already.
    with contextlib.suppress(OSError):
        found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
    writer.transport.abort()


class Proxy:
    """Listens on `port` of 127.0.0.1 and passes on to `upstream` there."""

    def __init__(self, port: int, upstream: int) -> None:
        self.port = port
        self.upstream = upstream
        self.mode = Mode.PASS
        # Pieces of data that the present fault held up, and connections it cut.
        self.affected = 0
        self._delay_seconds = 0.0
        self._bytes_per_second = 0
        self._flows = asyncio.Event()
        self._flows.set()
        self._connections: set[Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._connections)

    async def start(self) -> None:
        """Begin to listen."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)

    async def close(self) -> None:
        """Stop listening, and cut everything."""
        if self._server is not None:
            self._server.close()
        self.reset()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- faults

    def blackhole(self) -> None:
        """Accept connections and data, pass nothing. `heal` lets it all through."""
        self._begin(Mode.BLACKHOLE)
        self._flows.clear()

    def delay(self, seconds: float) -> None:
        """Everything takes so much longer, each way."""
        self._begin(Mode.DELAY)
        self._delay_seconds = seconds

    def throttle(self, bytes_per_second: int) -> None:
        """Each way of each connection passes so much."""
        self._begin(Mode.THROTTLE)
        self._bytes_per_second = bytes_per_second

    def half_open(self) -> None:
        """The broker's ends of all connections close, the workers' know nothing of it."""
        self._begin(Mode.HALF_OPEN)
        for connection in self._connections:
            connection.dead = True
            abort(connection.server)
            self.affected += 1

    def reset(self) -> int:
        """Cut all connections, with RST to both sides; how many there were."""
        cut = list(self._connections)
        for connection in cut:
            connection.reset()
        self.affected += len(cut)
        return len(cut)

    def heal(self) -> None:
        """All is well. Who sends into a half-open connection is told by RST, as by a real one."""
        self.mode = Mode.PASS
        self._flows.set()
        for connection in list(self._connections):
            if connection.dead:
                connection.reset()

    def _begin(self, mode: Mode) -> None:
        self.heal()
        self.mode = mode
        self.affected = 0

    # -- traffic

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if not self._flows.is_set():
            self.affected += 1
            await self._flows.wait()
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.upstream)
        except OSError:
            # The broker is down: refused, as it would be without us.
            abort(writer)
            return
        connection = Connection(writer, up_writer)
        self._connections.add(connection)
        try:
            await self._relay(connection, reader, up_reader)
        finally:
            self._connections.discard(connection)
            connection.reset()

    async def _relay(
        self, connection: Connection, requests: asyncio.StreamReader, answers: asyncio.StreamReader
    ) -> None:
        """Pass everything on, both ways, until the connection ends."""
        await asyncio.gather(
            self._pump(connection, requests, connection.server),
            self._pump(connection, answers, connection.client),
        )

    async def _pump(
        self, connection: Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(CHUNKS_WAITING_MAX)
        passing = asyncio.create_task(self._pass(connection, waiting, writer))
        try:
            data = b"-"
            while data:
                try:
                    data = await reader.read(CHUNK_BYTES)
                except OSError:
                    data = b""
                await waiting.put((time.monotonic(), data))
            await passing
        finally:
            passing.cancel()

    async def _pass(
        self,
        connection: Connection,
        waiting: "asyncio.Queue[tuple[float, bytes]]",
        writer: asyncio.StreamWriter,
    ) -> None:
        while True:
            came, data = await waiting.get()
            if not self._flows.is_set():
                self.affected += 1
                await self._flows.wait()
            if connection.dead:
                # Swallowed, and the end of it is not told, until `heal` resets it.
                await asyncio.Event().wait()
            if self.mode is Mode.DELAY:
                self.affected += 1
                await asyncio.sleep(came + self._delay_seconds - time.monotonic())
            if not data:
                # Either end's end ends both: Kafka knows no half-closed connection.
                writer.close()
                connection.client.close()
                connection.server.close()
                return
            await self._write(writer, data)

    async def _write(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        with contextlib.suppress(OSError):
            if self.mode is not Mode.THROTTLE:
                writer.write(data)
                await writer.drain()
                return
            self.affected += 1
            step = max(256, self._bytes_per_second // 20)
            for begin in range(0, len(data), step):
                piece = data[begin : begin + step]
                writer.write(piece)
                await writer.drain()
                if self.mode is Mode.THROTTLE:
                    await asyncio.sleep(len(piece) / self._bytes_per_second)
