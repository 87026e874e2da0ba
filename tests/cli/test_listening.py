"""Ports that commands serve on."""

import asyncio
import socket

import pytest

from hybridqa.cli.listening import listen
from hybridqa.errors import InputError


def test_answers_are_sent_without_waiting_for_more_of_them() -> None:
    async def without_delay() -> int:
        told: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connection = writer.get_extra_info("socket")
            told.set_result(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        with listen("127.0.0.1", 0) as listening:
            async with await asyncio.start_server(connected, sock=listening):
                _, writer = await asyncio.open_connection(*listening.getsockname())
                writer.close()
                return await told

    assert asyncio.run(without_delay())


def test_a_port_that_is_taken_is_told_of() -> None:
    with listen("127.0.0.1", 0) as taken, pytest.raises(InputError, match="cannot be used"):
        listen("127.0.0.1", taken.getsockname()[1])
