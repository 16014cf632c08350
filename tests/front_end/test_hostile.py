"""Thousands of handshakes for names that strangers make up, beside clients that are honest."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from centcert.errors import Alert
from centcert.tls.hello import alert_record
from tests.front_end.conftest import echo
from tests.front_end.test_node import over_faulty_store
from tests.visitor import NAME, Visitor

if TYPE_CHECKING:
    from centcert.testing import Authority
    from tests.front_end.conftest import Backend

pytestmark = pytest.mark.asyncio(loop_factories=["uvloop"])

HANDSHAKES = 3_000
AT_ONCE = 40
PLACE = b"s%07d.strangers.example"
REFUSED = alert_record(Alert.UNRECOGNIZED_NAME)


async def hello_for(address: tuple[str, int]) -> bytes:
    """A real ClientHello whose server name is ``PLACE % 0``."""
    visitor = await Visitor.connect(address, (PLACE % 0).decode())
    hello = visitor.hello()
    visitor.leave()
    assert hello.count(PLACE % 0) == 1
    return hello


async def ask(address: tuple[str, int], hello: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(*address)
    try:
        writer.write(hello)
        return await reader.read()
    finally:
        writer.close()


@pytest.mark.usefixtures("faults")
async def test_thousands_of_made_up_names_cost_the_store_nothing_and_honest_clients_little(
    backend: Backend, authority: Authority
):
    async with over_faulty_store(await backend(echo), authority) as node:
        provider, address = node.provider, node.address
        (await Visitor.arrive(address)).leave()
        while not provider._loader.index.fresh:
            await asyncio.sleep(0.001)
        hello = await hello_for(address)
        requests = node.store.fetched.total() + node.store.listed
        numbers = iter(range(1, HANDSHAKES + 1))
        answers: list[bytes] = []
        served = 0

        async def strangers() -> None:
            for number in numbers:
                answer = await ask(address, hello.replace(PLACE % 0, PLACE % number))
                answers.append(answer)

        async def honest() -> int:
            served = 0
            while len(answers) < HANDSHAKES:
                visitor = await Visitor.arrive(address, NAME)
                await visitor.send(b"hello")
                assert await visitor.receive_exactly(5) == b"hello"
                visitor.leave()
                served += 1
            return served

        honestly = asyncio.ensure_future(honest())
        await asyncio.gather(*(strangers() for _ in range(AT_ONCE)))
        served = await honestly
        assert answers == [REFUSED] * HANDSHAKES
        assert served > HANDSHAKES / AT_ONCE / 4, "they take their turns with the others"
        assert node.store.fetched.total() + node.store.listed == requests
        assert provider.usage[0] == 1
        assert provider._cache.absent_count == 0
        assert provider.findings() == ()
        while node.front_end.connection_count:
            await asyncio.sleep(0.001)


@pytest.mark.usefixtures("faults")
async def test_made_up_names_keep_no_known_name_from_being_served_while_the_store_is_away(
    backend: Backend, authority: Authority
):
    async with over_faulty_store(await backend(echo), authority) as node:
        (await Visitor.arrive(node.address)).leave()
        hello = await hello_for(node.address)
        node.store.fail()
        for start in range(0, 1_500, AT_ONCE):
            asks = [
                ask(node.address, hello.replace(PLACE % 0, PLACE % (start + number)))
                for number in range(AT_ONCE)
            ]
            refused = alert_record(Alert.INTERNAL_ERROR)
            assert set(await asyncio.gather(*asks)) <= {refused, REFUSED}
            (await Visitor.arrive(node.address)).leave()
        assert node.provider._cache.absent_count == 0, "a fault is no absence"
