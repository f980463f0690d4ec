"""A TCP proxy on 127.0.0.1 that breaks what passes through it, at a test's command."""

import asyncio
import socket
import struct
import threading
from collections.abc import Coroutine
from typing import Any, Self

from tests.rig.corruption import Corruption

CHUNK = 65536
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
COMMAND_S = 10.0


class FaultProxy:
    """Listens on `port` and passes all on to `upstream`, both on 127.0.0.1, until told otherwise.

    Every command comes from the test's thread, and has happened when it returns. `upstream` may
    be set anew, for the connections to come. The counts are of all connections so far.
    """

    def __init__(self, upstream: int, port: int = 0) -> None:
        self.upstream, self.port = upstream, port
        self.connections = self.bytes_down = self.bytes_up = 0
        self._links: dict[asyncio.Task[None], Corruption] = {}
        self._corrupt = ("", 0.0)
        self._silent = False
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="fault proxy", daemon=True
        )
        self._thread.start()
        try:
            self.listen()
        except OSError:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def open_connections(self) -> int:
        """How many connections there are now."""
        return len(self._links)

    def pass_through(self) -> None:
        """End stall, silent and corrupt; what a stall has held back is sent."""
        self._do(self._set(flowing=True, silent=False, corrupt=("", 0.0)))

    def stall(self) -> None:
        """Keep all connections and take new ones, but pass nothing on in either direction."""
        self._do(self._set(flowing=False))

    def silent(self) -> None:
        """Take new connections but never answer them, nor tell upstream; the others go on."""
        self._do(self._set(silent=True))

    def corrupt(self, seed: int, share: float) -> None:
        """Flip a bit in a `share` of the bytes of media that go down, on all connections."""
        self._do(self._set(corrupt=(str(seed), share)))

    def reset(self) -> None:
        """End all connections, on both sides, with RST; new ones are taken as before."""
        self._do(self._reset())

    def refuse(self) -> None:
        """Stop listening: new connections are refused, the others go on."""
        self._do(self._refuse())

    def listen(self) -> None:
        """Listen again, on the same port."""
        self._do(self._listen())

    def close(self) -> None:
        """End everything; a second call does nothing."""
        if self._loop.is_closed():
            return
        self.refuse()
        self.reset()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, command: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(command, self._loop).result(COMMAND_S)

    async def _set(
        self,
        flowing: bool | None = None,
        silent: bool | None = None,
        corrupt: tuple[str, float] | None = None,
    ) -> None:
        if silent is not None:
            self._silent = silent
        if corrupt is not None:
            self._corrupt = corrupt
            for corruption in self._links.values():
                corruption.start(*corrupt)
        if flowing:
            self._flowing.set()
        elif flowing is not None:
            self._flowing.clear()

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._link, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def _refuse(self) -> None:
        if self._server:
            self._server.close()
            self._server = None

    async def _reset(self) -> None:
        links = list(self._links)
        for link in links:
            link.cancel()
        await asyncio.gather(*links, return_exceptions=True)

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until both sides have hung up, or one is broken."""
        link = asyncio.current_task()
        assert link
        self.connections += 1
        corruption = self._links[link] = Corruption()
        corruption.start(*self._corrupt)
        writers = [writer]
        try:
            if self._silent:
                while await reader.read(CHUNK):
                    pass
            else:
                answers, upstream = await asyncio.open_connection("127.0.0.1", self.upstream)
                writers.append(upstream)
                async with asyncio.TaskGroup() as pumps:
                    pumps.create_task(self._pump(reader, upstream))
                    pumps.create_task(self._pump(answers, writer, corruption))
            for side in writers:
                side.close()
                await side.wait_closed()
        except* (OSError, asyncio.CancelledError):
            pass  # asyncio would log a cancelled one
        finally:
            for side in writers:
                if not side.transport.is_closing():
                    sock = side.get_extra_info("socket")
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
                side.transport.abort()
            del self._links[link]

    async def _pump(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        corruption: Corruption | None = None,
    ) -> None:
        """Pass on what comes from `source`, and its end; a corruption means the way down."""
        while data := await source.read(CHUNK):
            await self._flowing.wait()
            if corruption:
                self.bytes_down += len(data)
                data = corruption.pass_on(data)
            else:
                self.bytes_up += len(data)
            sink.write(data)
            await sink.drain()
        await self._flowing.wait()
        sink.write_eof()
