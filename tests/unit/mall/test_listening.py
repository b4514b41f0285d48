"""Who listens to a socket hears what comes, and does not go on hearing what nobody reads."""

from __future__ import annotations

import asyncio
import socket

from ballast.mall.listening import Ear


def test_it_hears_again_and_again_and_leaves_the_loop_alone_when_nobody_reads() -> None:
    async def story() -> None:
        loop = asyncio.get_running_loop()
        here, there = socket.socketpair()
        ear = Ear()
        with here, there:
            for _ in range(3):
                there.send(b"a")
                await asyncio.wait_for(ear.heard(here.fileno()), 5)
                assert here.recv(10) == b"a"
            there.close()
            for _ in range(10):
                await asyncio.sleep(0)
            assert not loop.remove_reader(here.fileno())
            await asyncio.wait_for(ear.heard(here.fileno()), 5)  # it is told again to who asks: the end
            assert here.recv(10) == b""
            ear.close()
            assert not loop.remove_reader(here.fileno())

    asyncio.run(story())


def test_who_stops_waiting_may_wait_again() -> None:
    async def story() -> None:
        here, there = socket.socketpair()
        ear = Ear()
        with here, there:
            waiting = asyncio.create_task(ear.heard(here.fileno()))
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait([waiting])
            there.send(b"a")
            await asyncio.wait_for(ear.heard(here.fileno()), 5)
            ear.close()

    asyncio.run(story())
