"""Events of several handshakes at once, put together; and who reads too slowly."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

from centcert.audience import Audience
from centcert.errors import Alert as TlsAlert
from centcert.errors import HelloRefused, NameRefused, UnknownName
from centcert.frontend.events import (
    Accepted,
    Closed,
    Full,
    HandshakeDone,
    HandshakeRefused,
    HelloRead,
    ServerHelloSent,
)
from centcert.names import HostName
from centcert.provider.events import Decoded, Fetched, Found, Hit, Recalled, Withdrawn
from centcert.smb3 import Connected, OperationEnded
from centcert.stores.events import SmbStep
from centcert.tracing import (
    MAX_BACKLOG,
    MAX_STEPS,
    LeftOut,
    TracedHandshake,
    TracedLine,
    Tracer,
    Tracing,
    traced,
)

if TYPE_CHECKING:
    from centcert.tracing import Traced

ONE, OTHER = HostName("one.example"), HostName("other.example")
TENANTS = [HostName(f"{label}.tenants.example") for label in "ab"]
TENANTS_KEY = "_.tenants.example.pfx"


class Told:
    def __init__(self, pattern: str | None = None) -> None:
        self.messages: list[Traced] = []
        self.tracer = Tracer(pattern, self.messages.append)

    def hear(self, *events: object) -> None:
        for event in events:
            self.tracer(event)

    def begin(self, number: int, name: HostName) -> None:
        self.hear(Accepted(number, f"192.0.2.1:{number}"), HelloRead(number, name, 300))

    def end(self, number: int, name: HostName, key: str | None = None) -> list[str]:
        """End a handshake; return its steps between the first and the last two."""
        self.hear(ServerHelloSent(number, name, 900), done(number, name, key))
        message = self.messages[-1]
        assert isinstance(message, TracedHandshake)
        assert [step.step for step in message.steps[-2:]] == ["server hello", "done"]
        return [f"{step.step}: {step.text}" for step in message.steps[1:-2]]

    def is_empty(self) -> bool:
        tracer = self.tracer
        return not (tracer._open or tracer._waiting or tracer._waiting._by_pattern)


def done(number: int, name: HostName, key: str | None = None) -> HandshakeDone:
    return HandshakeDone(number, name, key, "TLSv1.3", "TLS_X", "x25519", None)


def test_what_happens_to_a_file_is_a_step_of_all_that_wait_for_it_and_of_no_other():
    told = Told()
    told.begin(1, TENANTS[0])
    told.begin(2, ONE)
    told.begin(3, TENANTS[1])
    told.hear(
        SmbStep("fs", "data", Connected("fs:445", 0.001)),
        SmbStep("fs", "control", Connected("fs:445", 0.001)),
        SmbStep("fs", "data", OperationEnded("fetch", f"a\\b\\{TENANTS_KEY}", "done", 9, 0.002)),
        Fetched(TENANTS_KEY, 0.002, 1_000),
        Fetched("one.example.pfx", 0.002, None),
        Decoded(TENANTS_KEY, 0.005),
        Found(TENANTS[0], TENANTS_KEY, 0.008),
    )
    shared = [
        "smb: connected to fs:445",
        f"smb: a\\b\\{TENANTS_KEY} in one frame each way",
        f"fetch: {TENANTS_KEY}: 1000 bytes",
        f"decode: {TENANTS_KEY}",
    ]
    assert told.end(1, TENANTS[0]) == [*shared, f"look-up: {TENANTS_KEY} answers"]
    assert told.end(3, TENANTS[1]) == shared
    assert told.end(2, ONE) == [
        "smb: connected to fs:445",
        "fetch: one.example.pfx: absent",
    ]
    assert told.is_empty()


def test_a_hit_belongs_to_the_hello_before_it():
    told = Told()
    told.begin(1, ONE)
    told.begin(2, ONE)
    told.hear(Hit(ONE, "one.example.pfx", stale=False))
    assert told.end(1, ONE) == []
    assert told.end(2, ONE) == ["look-up: one.example.pfx is in memory"]


def test_who_has_been_answered_waits_for_nothing_more():
    told = Told()
    told.begin(1, ONE)
    told.hear(ServerHelloSent(1, ONE, 900), Fetched("one.example.pfx", 0.1, 5), done(1, ONE))
    (message,) = told.messages
    assert isinstance(message, TracedHandshake)
    assert [step.step for step in message.steps] == ["client hello", "server hello", "done"]


def test_a_client_that_leaves_is_told_and_let_go():
    told = Told()
    told.begin(1, ONE)
    told.hear(Closed(1), Accepted(2, "192.0.2.1:2"), Closed(2), Closed(3))
    assert [one.outcome for one in told.messages if isinstance(one, TracedHandshake)] == [
        "left",
        "left",
    ]
    assert told.is_empty()


def test_refusals_before_a_name_is_known_are_told_escaped():
    told = Told()
    refused = HelloRefused(TlsAlert.DECODE_ERROR, "no hello")
    told.hear(Accepted(1, "c"), HandshakeRefused(1, "c", None, refused))
    told.hear(Accepted(2, "c"), HandshakeRefused(2, "c", "a\x9b2J", NameRefused("a\x9b no.")))
    first, second = told.messages
    assert isinstance(first, TracedHandshake)
    assert isinstance(second, TracedHandshake)
    assert (first.name, first.reason, first.alert) == (None, "hello-refused", "decode_error")
    assert second.name == "a\\x9b2J"
    assert second.steps[-1].text == "alert unrecognized_name (112): a\\x9b no."


def test_a_pattern_lets_only_its_names_through():
    for pattern, wanted in ((ONE, ONE), ("*.tenants.example", TENANTS[0])):
        told = Told(pattern)
        for number, name in enumerate((ONE, OTHER, TENANTS[0], HostName("a.b.tenants.example"))):
            told.begin(number, name)
            told.hear(done(number, name))
        told.hear(Accepted(8, "c"), HandshakeRefused(8, "c", None, NameRefused("no.")))
        told.hear(Accepted(9, "c"), Closed(9), Full("c"), Withdrawn(OTHER), Withdrawn(wanted))
        handshake, line = told.messages
        assert isinstance(handshake, TracedHandshake)
        assert handshake.name == wanted
        assert isinstance(line, TracedLine)
        assert line.line.name == wanted
        assert told.is_empty()


def test_news_is_a_step_of_who_waits_for_it_else_a_line():
    told = Told()
    told.begin(1, ONE)
    told.hear(Recalled(ONE, "one.example.pfx"), Recalled(OTHER, "other.example.pfx"))
    assert told.end(1, ONE) == ["last good: one.example.pfx, this node's own copy"]
    (line,) = [one for one in told.messages if isinstance(one, TracedLine)]
    assert (line.line.event, line.line.name) == ("recalled", OTHER)


def test_handshakes_that_began_before_are_left_alone():
    told = Told()
    told.hear(HelloRead(1, ONE, 3), ServerHelloSent(1, ONE, 3), done(1, ONE), Closed(1))
    told.hear(HandshakeRefused(2, "c", None, UnknownName("a")))
    assert not told.messages
    assert told.is_empty()


def test_the_steps_of_a_handshake_are_bounded():
    told = Told()
    told.begin(1, ONE)
    told.hear(*[Fetched("one.example.pfx", 0.1, None)] * 1_000, Closed(1))
    (message,) = told.messages
    assert isinstance(message, TracedHandshake)
    assert len(message.steps) <= MAX_STEPS + 1


async def test_what_is_not_taken_is_counted_in_its_place():
    audience = Audience()
    async with aclosing(traced(audience, None)) as messages:
        assert await anext(messages) == Tracing()
        for number in range(MAX_BACKLOG + 10):
            audience(Full(str(number)))
        for number in range(MAX_BACKLOG):
            told = await anext(messages)
            assert isinstance(told, TracedLine)
            assert told.line.client == str(number)
        audience(Full("then"))
        assert await anext(messages) == LeftOut(10)
        told = await anext(messages)
        assert isinstance(told, TracedLine)
        assert told.line.client == "then"
        waiting = asyncio.ensure_future(anext(messages))
        await asyncio.sleep(0)
        assert not waiting.done()
        audience(Full("last"))
        assert isinstance(await waiting, TracedLine)
    assert audience.steps is None
