"""The decoder with real child processes; nothing here stands in for one."""

from __future__ import annotations

import asyncio
import base64
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
import uvloop
from cryptography.hazmat.primitives.serialization import Encoding, pkcs12

from centcert import credential
from centcert.credential import MAX_BLOB_BYTES, decode
from centcert.decoder_process import Decoded, Refused, Reply, Request, frame
from centcert.errors import (
    BadBlob,
    BlobDamaged,
    BlobTooCostly,
    BlobTooLarge,
    KeyMissing,
    Overloaded,
    WrongPassword,
    WrongUsage,
)
from centcert.provider import decoder as module
from centcert.provider.decoder import Decoder
from centcert.stores.base import Blob
from centcert.testing import Authority

if TYPE_CHECKING:
    from collections.abc import Callable

    from centcert.testing import Issued

PASSWORD = b"correct horse"
SLOWLY = (b"one", b"two", b"three", PASSWORD)
"""Four times the rounds: no machine is so fast that it has done within a second of CPU."""
MODULE = "centcert.decoder_process"


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def issued(authority: Authority) -> Issued:
    return authority.issue("www.contoso.example")


def test_a_request_shows_no_secret(issued: Issued):
    request = Request("a.pfx", issued.pem(), (PASSWORD,), 1.0)
    assert repr(request) == f"Request(key='a.pfx', {len(issued.pem())} bytes)"
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(request), type=Request) == request


def blob(data: bytes) -> Blob:
    return Blob("www.contoso.example.pfx", data, "1")


@pytest.fixture(scope="module")
def file(issued: Issued) -> Blob:
    return blob(issued.pfx(PASSWORD))


@pytest.fixture(scope="module")
def slow_file(issued: Issued) -> Blob:
    """A file whose key takes seconds of CPU to decrypt: 8.4 million rounds."""
    made = subprocess.run(
        [
            *("openssl", "pkcs8", "-topk8", "-outform", "DER"),
            *("-iter", "65537", "-passout", f"pass:{PASSWORD.decode()}"),
        ],
        input=issued.pem(),
        stdout=subprocess.PIPE,
        check=True,
    )
    rounds = b"\x02\x03\x01\x00\x01"
    assert made.stdout.count(rounds) == 1
    body = base64.encodebytes(made.stdout.replace(rounds, b"\x02\x03\x7f\xff\xff"))
    label = b"ENCRYPTED PRIVATE KEY-----\n"
    block = b"-----BEGIN " + label + body + b"-----END " + label
    return blob(issued.certificate.public_bytes(Encoding.PEM) + block)


def children(parent: int | None = None) -> list[int]:
    """The decoder processes of ``parent``, by default of this one."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            fields = dict(line.split(":\t", 1) for line in status.read_text().splitlines())
            command = status.with_name("cmdline").read_bytes()
        except (OSError, ValueError):  # it has just ended
            continue
        if int(fields["PPid"]) == (parent or os.getpid()) and MODULE.encode() in command:
            found.append(int(fields["Pid"]))
    return found


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


def state(pid: int) -> str | None:
    """T: stopped, Z: ended but not yet reaped, None: gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except OSError:
        return None


async def stop(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)
    await until(lambda: state(pid) == "T")


# --- decoding -------------------------------------------------------------------------


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_a_blob_decodes_on_each_event_loop_and_no_child_stays(
    file: Blob, issued: Issued, run: Callable[..., object]
) -> None:
    async def scenario() -> None:
        async with Decoder(processes=2) as decoder:
            assert len(children()) == 2
            decoded = await asyncio.gather(
                *(decoder.decode(file, [b"wrong", PASSWORD]) for _ in range(5))
            )
            for one in decoded:
                assert one.certificate == issued.certificate
                assert (
                    one.to_parts()
                    == decode(file.data, key=file.key, passwords=[PASSWORD]).to_parts()
                )
            with pytest.raises(WrongPassword):
                await decoder.decode(file, [])

    run(scenario())
    assert children() == []


async def test_the_file_is_opened_in_another_process(
    file: Blob, monkeypatch: pytest.MonkeyPatch
) -> None:
    def here(*_: object, **__: object) -> None:
        raise AssertionError("opened in this process")

    monkeypatch.setattr(pkcs12, "load_pkcs12", here)
    monkeypatch.setattr(credential, "decode", here)
    async with Decoder() as decoder:
        assert (await decoder.decode(file, [PASSWORD])).key == file.key


async def test_each_refusal_comes_back_as_itself(authority: Authority, file: Blob) -> None:
    cases = {
        WrongPassword: (file, [b"one", b"two"]),
        BlobDamaged: (blob(file.data[:-1]), [PASSWORD]),
        BlobTooLarge: (blob(bytes(MAX_BLOB_BYTES + 1)), []),
        KeyMissing: (blob(authority.root_pem), []),
        WrongUsage: (blob(authority.issue("a.example", server_auth=False).pfx()), []),
    }
    async with Decoder() as decoder:
        for kind, (bad, passwords) in cases.items():
            with pytest.raises(BadBlob) as there:
                await decoder.decode(bad, passwords)
            with pytest.raises(kind) as here:
                decode(bad.data, key=bad.key, passwords=passwords)
            assert type(there.value) is kind
            assert str(there.value) == str(here.value)
            assert there.value.key == bad.key


async def test_credentials_share_their_issuers(authority: Authority) -> None:
    async with Decoder() as decoder:
        one, two = [
            await decoder.decode(blob(authority.issue(name).pfx()), [])
            for name in ("one.example", "two.example")
        ]
    assert one.issuers[0] is two.issuers[0]


# --- bounds ---------------------------------------------------------------------------


async def test_more_than_may_wait_are_refused_at_once(file: Blob) -> None:
    async with Decoder(max_waiting=2) as decoder:
        (pid,) = children()
        await stop(pid)
        calls = []
        for _ in range(3):  # one is under way, two wait
            calls.append(asyncio.ensure_future(decoder.decode(file, [PASSWORD])))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        with pytest.raises(Overloaded, match="2 certificate files wait"):
            await decoder.decode(file, [PASSWORD])
        os.kill(pid, signal.SIGCONT)
        assert [one.key for one in await asyncio.gather(*calls)] == [file.key] * 3


async def test_a_file_that_takes_too_long_is_given_up(slow_file: Blob, file: Blob) -> None:
    async with Decoder(deadline_s=0.5) as decoder:
        before = children()
        with pytest.raises(BlobTooCostly, match=r"not decoded within 0\.5 s"):
            await decoder.decode(slow_file, SLOWLY)
        decoder._deadline_s = 20.0  # a busy machine may need more for a good one
        assert (await decoder.decode(file, [PASSWORD])).key == file.key
        after = children()
        assert len(before) == len(after) == 1
        assert before != after
        await stop(after[0])  # this one would not even end by its CPU limit
        decoder._deadline_s = 0.1
        with pytest.raises(BlobTooCostly):
            await decoder.decode(file, [PASSWORD])
        decoder._deadline_s = 20.0
        assert (await decoder.decode(file, [PASSWORD])).key == file.key


async def test_a_child_ends_by_itself_when_nobody_watches_its_deadline(slow_file: Blob) -> None:
    request = Request(slow_file.key, slow_file.data, SLOWLY, 0.1)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", MODULE), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    answered, _ = await process.communicate(frame(msgspec.msgpack.encode(request)))
    assert process.returncode == -signal.SIGXCPU
    assert answered == frame(b"")  # it was ready, and said no more


# --- children that end ----------------------------------------------------------------


async def test_a_child_that_ended_is_replaced_without_anybody_noticing(file: Blob) -> None:
    async with Decoder() as decoder:
        (first,) = children()
        os.kill(first, signal.SIGKILL)
        assert (await decoder.decode(file, [PASSWORD])).key == file.key
        (second,) = children()
        await stop(second)
        call = asyncio.ensure_future(decoder.decode(file, [PASSWORD]))
        await asyncio.sleep(0.05)
        os.kill(second, signal.SIGKILL)  # in the middle of it
        assert (await call).key == file.key
        assert children() not in ([], [first], [second])


CRASHES = """
import sys, os
with open(sys.argv[1], "a") as starts: starts.write("x")
os.write(1, bytes(4))
sys.stdin.buffer.read(10)
"""
NONSENSE = CRASHES + "os.write(1, bytes([0, 0, 0, 1, 0xC1])); sys.stdin.buffer.read()"
ENDLESS = CRASHES + "os.write(1, bytes([255]) * 4); sys.stdin.buffer.read()"


@pytest.mark.parametrize("code", [CRASHES, NONSENSE, ENDLESS], ids=["ends", "nonsense", "endless"])
async def test_a_file_that_brings_down_two_children_is_a_finding(
    file: Blob, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = tmp_path / "starts"
    monkeypatch.setattr(module, "_COMMAND", ("-c", code, str(starts)))
    async with Decoder() as decoder:
        with pytest.raises(BlobTooCostly, match="twice"):
            await decoder.decode(file, [PASSWORD])
        assert starts.read_text() == "xx"
        monkeypatch.undo()
        assert (await decoder.decode(file, [PASSWORD])).key == file.key


FALLS_OVER = """
import os, sys, time
import msgspec
from centcert.decoder_process import Refused, Request, frame

os.write(1, frame(b""))
while header := sys.stdin.buffer.read(4):
    request = msgspec.msgpack.decode(sys.stdin.buffer.read(int.from_bytes(header)), type=Request)
    if request.key == "ends":
        os._exit(1)
    if request.key == "hangs":
        time.sleep(1000)
    os.write(1, frame(msgspec.msgpack.encode(Refused("KeyMissing", "read"))))
"""


@pytest.mark.parametrize("key", ["ends", "hangs"])
async def test_a_file_that_brings_down_children_harms_none_that_was_sent_with_it(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_COMMAND", ("-c", FALLS_OVER, MODULE))
    keys = ["a", "b", key, "c", key, "d"]
    async with Decoder(deadline_s=20.0 if key == "ends" else 3.0) as decoder:
        (pid,) = children()
        await stop(pid)  # all are sent before it answers the first
        calls = [asyncio.ensure_future(decoder.decode(Blob(k, b"", "1"), ())) for k in keys]
        (child,) = decoder._children
        assert child is not None
        async with asyncio.timeout(20):
            while len(child.unanswered) < len(keys):
                await asyncio.sleep(0)
        os.kill(pid, signal.SIGCONT)
        results = await asyncio.gather(*calls, return_exceptions=True)
    for one, result in zip(keys, results, strict=True):
        assert type(result) is (BlobTooCostly if one == key else KeyMissing)


async def test_a_child_that_does_not_start_is_said_so(
    file: Blob, monkeypatch: pytest.MonkeyPatch
) -> None:
    for command in (("-c", ""), ("-c", "print('hello')")):
        monkeypatch.setattr(module, "_COMMAND", command)
        decoder = Decoder()
        with pytest.raises(Overloaded, match="does not start"):
            await decoder.__aenter__()
        with pytest.raises(Overloaded, match="not running"):
            await decoder.decode(file, [PASSWORD])


@pytest.mark.parametrize(
    ("where", "name", "value"),
    [
        (sys, "executable", "/nonexistent"),  # OSError
        (module, "_COMMAND", (None,)),  # TypeError, which nobody foresaw
    ],
)
async def test_a_child_that_is_not_replaced_is_said_so_and_replaced_later(
    file: Blob, monkeypatch: pytest.MonkeyPatch, where: object, name: str, value: object
) -> None:
    async with Decoder() as decoder:
        monkeypatch.setattr(where, name, value)
        os.kill(children()[0], signal.SIGKILL)
        with pytest.raises(Overloaded, match="does not start"):
            await decoder.decode(file, [PASSWORD])
        monkeypatch.undo()
        assert (await decoder.decode(file, [PASSWORD])).key == file.key


ONLY_ONE = """
import os, sys
os.mkdir(sys.argv[1])
os.write(1, bytes(4))
sys.stdin.buffer.read()
"""


async def test_no_child_stays_when_another_does_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("-c", ONLY_ONE, str(tmp_path / "started"), MODULE)  # its name, for children()
    monkeypatch.setattr(module, "_COMMAND", command)
    with pytest.raises(Overloaded, match="does not start"):
        await Decoder(processes=3).__aenter__()
    assert (tmp_path / "started").exists()
    assert children() == []


# --- callers that leave ---------------------------------------------------------------


async def test_a_cancelled_call_leaves_the_others_and_the_child_alone(file: Blob) -> None:
    async with Decoder() as decoder:
        (pid,) = children()
        await stop(pid)
        calls = [asyncio.ensure_future(decoder.decode(file, [PASSWORD])) for _ in range(4)]
        await asyncio.sleep(0.05)  # the first is under way
        calls[0].cancel()
        calls[2].cancel()
        os.kill(pid, signal.SIGCONT)
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert [isinstance(one, asyncio.CancelledError) for one in results] == [True, False] * 2
        assert children() == [pid]


COUNTS = """
import sys
import msgspec
from centcert.decoder_process import Refused, frame

def say(message):
    sys.stdout.buffer.write(frame(message))
    sys.stdout.buffer.flush()

say(b"")
while header := sys.stdin.buffer.read(4):
    sys.stdin.buffer.read(int.from_bytes(header))
    with open(sys.argv[1], "a") as requests:
        requests.write("x")
    say(msgspec.msgpack.encode(Refused("KeyMissing", "counted")))
"""


async def test_a_blob_that_nobody_waits_for_is_not_decoded(
    file: Blob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = tmp_path / "requests"
    monkeypatch.setattr(module, "_COMMAND", ("-c", COUNTS, str(requests)))
    monkeypatch.setattr(module, "AHEAD", 2)
    async with Decoder() as decoder:
        (pid,) = children()
        await stop(pid)
        calls = [asyncio.ensure_future(decoder.decode(file, [PASSWORD])) for _ in range(4)]
        await asyncio.sleep(0.05)  # two are under way
        calls[1].cancel()
        calls[2].cancel()
        os.kill(pid, signal.SIGCONT)
        results = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(one) for one in results] == [
        *(KeyMissing, asyncio.CancelledError, asyncio.CancelledError, KeyMissing)
    ]
    assert requests.read_text() == "xxx"


async def test_a_cancelled_start_leaves_no_child(monkeypatch: pytest.MonkeyPatch) -> None:
    never_ready = ("-c", "import time; time.sleep(1000)", MODULE)
    monkeypatch.setattr(module, "_COMMAND", never_ready)
    decoder = Decoder(processes=2)
    start = asyncio.ensure_future(decoder.__aenter__())
    await until(lambda: len(children()) == 2)
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    assert children() == []


async def test_close_ends_calls_and_children_also_a_stuck_one(file: Blob) -> None:
    decoder = await Decoder().__aenter__()
    await stop(children()[0])
    calls = [asyncio.ensure_future(decoder.decode(file, [PASSWORD])) for _ in range(3)]
    await asyncio.sleep(0.05)
    async with asyncio.timeout(10):
        await decoder.close()
        await decoder.close()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(one) for one in results] == [Overloaded] * 3
    with pytest.raises(Overloaded):
        await decoder.decode(file, [PASSWORD])
    assert children() == []


PARENT = """
import asyncio
from centcert.provider.decoder import Decoder

async def main():
    async with Decoder():
        print("ready", flush=True)
        await asyncio.sleep(1000)

asyncio.run(main())
"""


async def test_a_killed_parent_leaves_no_orphan() -> None:
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, stdout=subprocess.PIPE
    )
    assert parent.stdout is not None
    assert await parent.stdout.readline() == b"ready\n"
    (child,) = children(parent.pid)
    parent.kill()
    await parent.wait()
    await until(lambda: state(child) in ("Z", None))


# --- what a child may do --------------------------------------------------------------


async def test_the_signals_that_end_a_service_leave_its_decoder_alone(file: Blob) -> None:
    async with Decoder() as decoder:
        (pid,) = children()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(pid, number)
        assert os.getsid(pid) == pid  # no terminal's Ctrl-C comes that far
        assert (await decoder.decode(file, [PASSWORD])).key == file.key
        assert children() == [pid]


async def test_a_child_holds_no_descriptor_but_its_pipes() -> None:
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    async with Decoder():
        os.close(writing)
        os.set_blocking(reading, False)
        assert os.read(reading, 1) == b""  # the end; were the child to hold it, it would block
    os.close(reading)


CONFINED = """
import ctypes, json, resource, sys
from centcert.decoder_process import confine
confine()
try:
    bytearray(1 << 30)
    memory = "unbounded"
except MemoryError:
    memory = "bounded"
print(json.dumps({
    "core": resource.getrlimit(resource.RLIMIT_CORE),
    "files": resource.getrlimit(resource.RLIMIT_FSIZE),
    "dumpable": ctypes.CDLL(None).prctl(3, 0, 0, 0, 0),
    "memory": memory,
}))
"""


def test_a_child_is_confined() -> None:
    assert msgspec.json.decode(subprocess.check_output([sys.executable, "-c", CONFINED])) == {
        "core": [0, 0],
        "files": [0, 0],
        "dumpable": 0,
        "memory": "bounded",
    }


def test_confining_raises_no_limit_that_is_lower_already() -> None:
    low = 200 * 1024 * 1024
    code = (
        "import resource; from centcert.decoder_process import confine;"
        f" resource.setrlimit(resource.RLIMIT_AS, ({low}, {low})); confine();"
        " print(resource.getrlimit(resource.RLIMIT_AS))"
    )
    shown = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert shown == f"({low}, {low})\n"


def test_replies_show_no_key(issued: Issued) -> None:
    parts = decode(issued.pfx(), key="a.pfx", passwords=()).to_parts()
    again = msgspec.msgpack.decode(msgspec.msgpack.encode(Decoded(parts)), type=Reply)
    assert again == Decoded(parts)
    assert "private" not in repr(again)
    refused = Refused("WrongPassword", "no")
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(refused), type=Reply) == refused
