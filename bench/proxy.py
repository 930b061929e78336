"""A long and narrow line: a TCP proxy that adds to every round trip and limits the bytes per second of each direction.

Usage: proxy.py TARGET_PORT ROUND_TRIP_MS BYTES_PER_SECOND. Prints the port that it listens on; ends when its standard input does.
"""

import asyncio
import sys

READ_BYTES = 64 << 10


class Direction:
    """One direction of the line, shared by all connections: bytes leave it one after the other, and arrive later."""

    def __init__(self, delay: float, bytes_per_second: float) -> None:
        self.delay, self.bytes_per_second, self.free_at = delay, bytes_per_second, 0.0

    def arrival(self, count: int) -> tuple[float, float]:
        """When so many bytes have left, and when they arrive."""
        self.free_at = max(self.free_at, asyncio.get_running_loop().time()) + count / self.bytes_per_second
        return self.free_at, self.free_at + self.delay


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: Direction) -> None:
    loop, queue = asyncio.get_running_loop(), asyncio.Queue()

    async def deliver() -> None:
        while (item := await queue.get()) is not None:
            at, piece = item
            await asyncio.sleep(max(0.0, at - loop.time()))
            writer.write(piece)
            await writer.drain()
        writer.write_eof()

    delivery = asyncio.create_task(deliver())
    try:
        while piece := await reader.read(READ_BYTES):
            leaves_at, arrives_at = direction.arrival(len(piece))
            queue.put_nowait((arrives_at, piece))
            # What has not left yet is the sender's to keep.
            await asyncio.sleep(max(0.0, leaves_at - loop.time()))
    except ConnectionError:
        pass
    queue.put_nowait(None)
    try:
        await delivery
    except (ConnectionError, OSError):
        pass


async def main() -> None:
    port, delay, rate = int(sys.argv[1]), float(sys.argv[2]) / 2000, float(sys.argv[3])
    there, back = Direction(delay, rate), Direction(delay, rate)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(carry(reader, far_writer, there), carry(far_reader, writer, back))
        far_writer.close()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


asyncio.run(main())
