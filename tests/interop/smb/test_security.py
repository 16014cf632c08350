"""Less than SMB 3.1.1 with AES-GCM and a proven account never becomes a connection."""

from __future__ import annotations

import asyncio
import gc
import re
import secrets
from typing import TYPE_CHECKING

import pytest

from centcert import smb3
from tests.interop.smb.conftest import login_of
from tests.interop.smb.proxy import Proxy, proxy_to

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from centcert.demo.samba import PrivateSamba
    from centcert.smb3 import Connection
    from tests.interop.smb.conftest import Dial, Start

SECRET_NAME = "www.secret-name.example.pfx"
PLAIN = b"\xfeSMB"
SEALED = b"\xfdSMB"
PATIENCE_S = 20.0


# --- servers that offer too little ------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(
            {"server max protocol": "SMB3_00", "server min protocol": "SMB2"}, id="SMB 3.0"
        ),
        pytest.param({"server max protocol": "SMB3_02", "server min protocol": "SMB2"}, id="3.0.2"),
        pytest.param({"server smb encrypt": "off"}, id="no encryption"),
        pytest.param(
            {"server smb3 encryption algorithms": "AES-128-CCM, AES-256-CCM"}, id="CCM only"
        ),
    ],
)
async def test_a_server_that_offers_less_is_refused_before_the_account_is_shown(
    start_samba: Start, dial: Dial, options: dict[str, str]
):
    samba = start_samba(options)
    async with proxy_to(samba.port) as proxy:
        with pytest.raises(smb3.SecurityViolation):
            await dial(samba, port=proxy.port)

    sent = [frame for from_server, frame in proxy.seen if not from_server]
    assert len(sent) == 1  # NEGOTIATE and nothing after it


async def test_a_guest_is_not_taken_for_the_account(start_samba: Start, dial: Dial):
    samba = start_samba(
        {"map to guest": "bad user", "server smb encrypt": "desired", "server signing": "auto"},
        {"guest ok": "yes", "valid users": ""},
    )

    with pytest.raises(smb3.SecurityViolation, match="guest"):
        await dial(samba, login=smb3.PasswordLogin("unknown", "password"))


@pytest.mark.parametrize("cipher", ["AES-128-GCM", "AES-256-GCM"])
@pytest.mark.parametrize("signing", ["AES-128-GMAC", "AES-128-CMAC"])
async def test_both_ciphers_and_both_signatures_work(
    start_samba: Start, dial: Dial, cipher: str, signing: str
):
    samba = start_samba(
        {
            "server smb3 encryption algorithms": cipher,
            "server smb3 signing algorithms": f"{signing}, HMAC-SHA256",
        }
    )
    events: list[smb3.Event] = []
    (samba.folder / "www.pfx").write_bytes(b"content")

    connection = await dial(samba, on_event=events.append)
    file = await connection.fetch("www.pfx", max_bytes=100, timeout_s=PATIENCE_S)

    assert connection.cipher.name == cipher.replace("-", "_")
    assert file is not None
    assert file.data == b"content"
    agreed = next(event for event in events if isinstance(event, smb3.ProtocolAgreed))
    assert agreed.signing == signing.replace("128-", "").replace("-", "_")


async def test_everything_is_sealed_even_if_the_server_does_not_ask_for_it(
    start_samba: Start, dial: Dial
):
    samba = start_samba({"server smb encrypt": "if_required", "server signing": "auto"})
    content = secrets.token_bytes(1000)
    (samba.folder / SECRET_NAME).write_bytes(content)
    async with proxy_to(samba.port) as proxy:
        connection = await dial(samba, port=proxy.port)
        await connection.fetch(SECRET_NAME, max_bytes=1000, timeout_s=PATIENCE_S)
        await connection.list_folder(timeout_s=PATIENCE_S)
        await connection.close()

    assert not connection.encryption_required
    wire = b"".join(frame for _, frame in proxy.seen)
    assert content not in wire
    for word in (SECRET_NAME, samba.share):
        assert word.encode("utf-16-le") not in wire
    plain = [frame for _, frame in proxy.seen if frame.startswith(PLAIN)]
    sealed = [frame for _, frame in proxy.seen if frame.startswith(SEALED)]
    assert len(plain) == 6  # NEGOTIATE and two rounds of SESSION_SETUP
    assert len(plain) + len(sealed) == len(proxy.seen)


# --- accounts -----------------------------------------------------------------------


async def test_a_wrong_password_is_tried_exactly_once(samba: PrivateSamba, dial: Dial):
    async with proxy_to(samba.port) as proxy:
        with pytest.raises(smb3.LoginRefused) as refused:
            await dial(
                samba, port=proxy.port, login=smb3.PasswordLogin(samba.username, "wrong password")
            )

    assert refused.value.status == smb3.Status.LOGON_FAILURE
    assert refused.value.kind is smb3.Kind.LOGIN
    proofs = [
        frame for from_server, frame in proxy.seen if not from_server and b"NTLMSSP\0\3" in frame
    ]
    assert len(proofs) == 1


async def test_an_unknown_account_is_refused(samba: PrivateSamba, dial: Dial):
    with pytest.raises(smb3.LoginRefused):
        await dial(samba, login=smb3.PasswordLogin("unknown", samba.password))


async def test_the_hash_of_a_password_is_as_good_as_the_password(samba: PrivateSamba, dial: Dial):
    smbpasswd = (samba.root / "private" / "smbpasswd").read_text()
    nt_hash = bytes.fromhex(smbpasswd.split(":")[3])

    connection = await dial(samba, login=smb3.HashLogin(samba.username, nt_hash))

    assert await connection.list_folder(timeout_s=PATIENCE_S) == []


async def test_no_secret_is_ever_shown(samba: PrivateSamba, dial: Dial):
    events: list[smb3.Event] = []
    login = login_of(samba)
    connection = await dial(samba, login=login, on_event=events.append)
    with pytest.raises(smb3.LoginRefused) as refused:
        await dial(samba, login=smb3.PasswordLogin("unknown", samba.password))

    shown = f"{login!r} {connection!r} {events!r} {refused.value!r} {refused.value}"

    assert samba.password not in shown
    assert re.search(r"[0-9a-f]{32}|\\x", shown) is None


async def test_nothing_of_the_login_is_kept(samba: PrivateSamba, dial: Dial):
    class Marked(str):
        __slots__ = ()

    password = Marked(samba.password)
    connection = await dial(samba, login=smb3.PasswordLogin(samba.username, password))
    gc.collect()

    seen: set[int] = set()
    todo: list[object] = [connection]
    while todo:
        owner = todo.pop()
        if id(owner) in seen:
            continue
        seen.add(id(owner))
        assert owner is not password
        assert not isinstance(owner, smb3.PasswordLogin)
        if isinstance(owner, (dict, list, tuple)) or type(owner).__module__.startswith(
            ("centcert.smb3", "spnego")
        ):
            todo += gc.get_referents(owner)
    assert len(seen) > 10  # else nothing was looked at


# --- somebody in the middle -----------------------------------------------------------


@pytest.fixture
async def proxy(samba: PrivateSamba) -> AsyncIterator[Proxy]:
    async with proxy_to(samba.port) as proxy:
        yield proxy


@pytest.fixture
async def proxied(samba: PrivateSamba, dial: Dial, proxy: Proxy) -> Connection:
    (samba.folder / "www.pfx").write_bytes(b"content")
    return await dial(samba, port=proxy.port)


async def fetch(connection: Connection, timeout_s: float = PATIENCE_S) -> bytes | None:
    file = await connection.fetch("www.pfx", max_bytes=100, timeout_s=timeout_s)
    return None if file is None else file.data


def flipped(frame: bytes, position: int) -> bytes:
    return frame[:position] + bytes([frame[position] ^ 1]) + frame[position + 1 :]


# What of the set-up's server frames a person in the middle may be after: the dialect,
# the server's capabilities, the chosen cipher (last contexts), the account's challenge.
@pytest.mark.parametrize("number", [0, 1, 2], ids=["negotiate", "challenge", "accepted"])
@pytest.mark.parametrize("position", [-1, -9, 70, 88, 100])
async def test_an_edited_set_up_never_becomes_a_connection(
    samba: PrivateSamba, dial: Dial, proxy: Proxy, number: int, position: int
):
    replies = 0

    def edit(from_server: bool, frame: bytes) -> list[bytes]:  # noqa: FBT001
        nonlocal replies
        replies += from_server
        if from_server and replies == number + 1 and -len(frame) <= position < len(frame):
            return [flipped(frame, position % len(frame))]
        if from_server and replies == number + 1:
            return [flipped(frame, len(frame) - 1)]
        return [frame]

    proxy.meddle = edit
    with pytest.raises(smb3.SmbError):
        await dial(samba, port=proxy.port)


async def test_a_cipher_taken_off_the_offer_is_noticed(
    samba: PrivateSamba, dial: Dial, proxy: Proxy
):
    both, one = b"\x02\0\x02\0\x04\0", b"\x02\0\x04\0\x04\0"

    def edit(from_server: bool, frame: bytes) -> list[bytes]:  # noqa: FBT001
        return [frame if from_server else frame.replace(both, one, 1)]

    proxy.meddle = edit
    with pytest.raises(smb3.SmbError):
        await dial(samba, port=proxy.port)
    offer = next(frame for from_server, frame in proxy.seen if not from_server)
    assert both in offer  # else nothing was edited


async def test_an_unsigned_acceptance_is_refused(samba: PrivateSamba, dial: Dial, proxy: Proxy):
    def unsign(from_server: bool, frame: bytes) -> list[bytes]:  # noqa: FBT001
        if from_server and frame[16] & 0x08:
            frame = frame[:16] + bytes([frame[16] & ~0x08]) + frame[17:48] + bytes(16) + frame[64:]
        return [frame]

    proxy.meddle = unsign
    with pytest.raises(smb3.SecurityViolation, match="sign"):
        await dial(samba, port=proxy.port)


async def test_a_plain_answer_ends_the_connection(proxied: Connection, proxy: Proxy):
    not_found = bytes.fromhex("fe534d42 4000 0100 340000c0 0500 0100 01000000 00000000")
    plain = not_found.ljust(64, b"\0") + bytes(9)
    proxy.meddle = lambda from_server, frame: [plain if from_server else frame]

    with pytest.raises(smb3.SecurityViolation):
        await fetch(proxied)
    assert isinstance(proxied.lost, smb3.SecurityViolation)
    with pytest.raises(smb3.SecurityViolation):
        await fetch(proxied)


async def test_a_plain_frame_that_nobody_asked_for_ends_the_connection(
    proxied: Connection, proxy: Proxy
):
    plain = b"\xfeSMB" + bytes(60) + bytes(9)
    proxy.meddle = lambda from_server, frame: [plain, frame] if from_server else [frame]

    with pytest.raises(smb3.SecurityViolation):
        await fetch(proxied)


@pytest.mark.parametrize("position", [5, 25, 36, 40, 42, 44, 60, -1])
async def test_a_flipped_bit_ends_the_connection(proxied: Connection, proxy: Proxy, position: int):
    proxy.meddle = lambda from_server, frame: [
        flipped(frame, position % len(frame)) if from_server else frame
    ]

    with pytest.raises(smb3.SecurityViolation):
        await fetch(proxied)


async def test_a_frame_sent_twice_ends_the_connection(proxied: Connection, proxy: Proxy):
    proxy.meddle = lambda from_server, frame: [frame, frame] if from_server else [frame]

    async def fetch_twice() -> None:  # the first may be answered before the copy arrives
        await fetch(proxied)
        await fetch(proxied)

    with pytest.raises(smb3.ProtocolViolation):
        await fetch_twice()


async def test_a_frame_of_another_session_ends_the_connection(
    samba: PrivateSamba, dial: Dial, proxied: Connection, proxy: Proxy
):
    other = await dial(samba, port=proxy.port)
    await fetch(other)
    foreign = proxy.seen[-1][1]
    proxy.meddle = lambda from_server, frame: [foreign if from_server else frame]

    with pytest.raises(smb3.SecurityViolation):
        await fetch(proxied)


async def test_dropped_frames_meet_the_deadline_and_free_every_waiter(
    proxied: Connection, proxy: Proxy
):
    proxy.meddle = lambda from_server, frame: [] if from_server else [frame]

    answers = await asyncio.gather(
        fetch(proxied, timeout_s=0.2),
        *(fetch(proxied) for _ in range(100)),
        return_exceptions=True,
    )

    assert {type(answer) for answer in answers} == {smb3.DeadlineMissed}
    assert isinstance(proxied.lost, smb3.DeadlineMissed)


async def test_delayed_and_reordered_frames_find_their_callers(
    samba: PrivateSamba, proxied: Connection, proxy: Proxy
):
    for number in range(60):
        (samba.folder / f"{number}.pfx").write_bytes(b"%d" % number)
    held: list[bytes] = []

    def reorder(from_server: bool, frame: bytes) -> list[bytes]:  # noqa: FBT001
        if not from_server:
            return [frame]
        held.append(frame)
        if len(held) < 20:
            return []
        released = held[::-1]
        held.clear()
        return released

    proxy.meddle = reorder
    files = await asyncio.gather(
        *(
            proxied.fetch(f"{number}.pfx", max_bytes=100, timeout_s=PATIENCE_S)
            for number in range(60)
        )
    )

    assert [file and file.data for file in files] == [b"%d" % number for number in range(60)]


# --- what others may do -----------------------------------------------------------------


async def exposure(samba: PrivateSamba, port: int | None = None) -> smb3.Exposure:
    return await smb3.probe(
        samba.host, samba.share, login_of(samba), port=port or samba.port, timeout_s=PATIENCE_S
    )


async def test_a_closed_share_is_found_closed_without_its_name_in_clear(samba: PrivateSamba):
    async with proxy_to(samba.port) as proxy:
        found = await exposure(samba, proxy.port)

    assert found == smb3.Exposure(anonymous=False, guest=False, unencrypted=False)
    assert samba.share.encode("utf-16-le") not in b"".join(frame for _, frame in proxy.seen)


@pytest.mark.parametrize("encrypt", ["if_required", "desired", "off"])
async def test_unencrypted_access_is_found(start_samba: Start, encrypt: str):
    samba = start_samba({"server smb encrypt": encrypt})

    assert await exposure(samba) == smb3.Exposure(anonymous=False, guest=False, unencrypted=True)


async def test_a_share_that_requires_encryption_for_itself_is_found_closed(start_samba: Start):
    samba = start_samba({"server smb encrypt": "if_required"}, {"server smb encrypt": "required"})

    assert not (await exposure(samba)).unencrypted


async def test_guests_are_found(start_samba: Start):
    samba = start_samba(
        {"map to guest": "bad user", "server smb encrypt": "if_required", "server signing": "auto"},
        {"guest ok": "yes", "valid users": ""},
    )

    assert await exposure(samba) == smb3.Exposure(anonymous=True, guest=True, unencrypted=True)


async def test_the_probe_shows_the_account_no_more_than_connecting_does(samba: PrivateSamba):
    async with proxy_to(samba.port) as proxy:
        await exposure(samba, proxy.port)

    sent = [frame for from_server, frame in proxy.seen if not from_server]
    name = samba.username.encode("utf-16-le")
    proofs = [frame for frame in sent if name in frame and b"NTLMSSP\0\3" in frame]
    assert len(proofs) == 1
    assert samba.password.encode() not in b"".join(sent)
    assert samba.password.encode("utf-16-le") not in b"".join(sent)
