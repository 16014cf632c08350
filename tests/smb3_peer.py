"""The server's half of a session in memory: it opens what the core sends, and answers."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, field

from centcert.smb3.credits import Credits
from centcert.smb3.handshake import Session
from centcert.smb3.negotiate import Negotiated
from centcert.smb3.sealing import Cipher, Opener, Sealer, SessionKeys, Signing, signature
from centcert.smb3.wire import Frames

SESSION_ID = 0x1122334455667788
SESSION_KEY = b"k" * 16
MORE = 0xC0000016
TREE_ID = 7
HEADER = struct.Struct("<4sHHIHHIIQIIQ16s")
KEYS = SessionKeys(signing=b"s" * 16, client_to_server=b"c" * 16, server_to_client=b"r" * 16)
AGREED = Negotiated(
    Cipher.AES_128_GCM,
    Signing.AES_GMAC,
    max_transact=1 << 20,
    max_read=1 << 20,
    max_write=1 << 20,
    server_time=0,
)


@dataclass(frozen=True)
class Asked:
    """One request as the server sees it."""

    command: int
    charge: int
    credits: int
    flags: int
    message_id: int
    async_id: int
    tree_id: int
    body: bytes


def session(granted: int = 512) -> Session:
    """A session just set up, with so many credits."""
    purse = Credits()
    _, asked = purse.take(1)
    purse.settle(asked, granted)
    return Session(SESSION_ID, KEYS, AGREED, server_encrypts=True, credits=purse)


def message(
    command: int,
    message_id: int,
    body: bytes = bytes(8),
    *,
    status: int = 0,
    granted: int = 1,
    async_id: int | None = None,
    session_id: int = SESSION_ID,
    next_command: int = 0,
) -> bytes:
    """A reply with its header, not sealed."""
    flags = 1 if async_id is None else 3
    reserved, tree_id = (0, TREE_ID) if async_id is None else divmod(async_id, 1 << 32)[::-1]
    fields = (0, status, command, granted, flags, next_command, message_id, reserved, tree_id)
    return HEADER.pack(b"\xfeSMB", 64, *fields, session_id, bytes(16)) + body


def chain(*messages: bytes) -> bytes:
    """Compound replies: each but the last says where the next begins."""
    parts = []
    for part in messages[:-1]:
        padded = part + bytes(-len(part) % 8)
        parts.append(padded[:20] + struct.pack("<I", len(padded)) + padded[24:])
    return b"".join((*parts, messages[-1]))


class Peer:
    """Opens and answers; every nonce, every message id is looked at."""

    def __init__(self) -> None:
        self.nonces: set[bytes] = set()
        self.message_ids: set[int] = set()
        self._frames = Frames()
        self._opener = Opener(KEYS.client_to_server, SESSION_ID)
        self._sealer = Sealer(KEYS.server_to_client, SESSION_ID)

    def take(self, data: bytes) -> list[list[Asked]]:
        """Open what the core has sent: one list for each frame."""
        frames = []
        for sealed in self._frames.feed(data):
            nonce = bytes(sealed[20:32])
            assert nonce not in self.nonces
            self.nonces.add(nonce)
            frames.append(self._requests(self._opener.open(sealed)))
        return frames

    def _requests(self, packet: bytes) -> list[Asked]:
        requests = []
        start = 0
        while True:
            fields = HEADER.unpack_from(packet, start)
            protocol, size, charge, _, command, asked, flags, step, message_id = fields[:9]
            assert (protocol, size) == (b"\xfeSMB", 64)
            assert fields[11] == SESSION_ID
            end = start + step if step else len(packet)
            ids = set(range(message_id, message_id + charge))
            assert not ids & self.message_ids
            self.message_ids |= ids
            async_id = fields[10] << 32 | fields[9] if flags & 2 else 0
            requests.append(
                Asked(
                    command,
                    charge,
                    asked,
                    flags,
                    message_id,
                    async_id,
                    fields[10],
                    packet[start + 64 : end],
                )
            )
            if not step:
                return requests
            assert step % 8 == 0
            start = end

    def seal(self, packet: bytes) -> bytes:
        """The frame of one message or chain."""
        return self._sealer.seal(packet)

    def answer(
        self, requests: list[Asked], *, status: int = 0, granted: int | None = None
    ) -> bytes:
        """The frame that answers each request with a status, granting what was asked for."""
        return self.seal(
            chain(
                *(
                    message(
                        request.command,
                        request.message_id,
                        status=status,
                        granted=request.credits if granted is None else granted,
                    )
                    for request in requests
                )
            )
        )


# --- bodies of replies ---------------------------------------------------------


def opened(size: int, context: bytes = b"") -> bytes:
    offset = 64 + 88 if context else 0
    fields = (89, 0, 0, 1, 1, 2, 3, 4, 0, size, 0x80, 0, b"F" * 16, offset, len(context))
    return struct.pack("<HBBIQQQQQQII16sII", *fields) + context


def closed(size: int, *, written: int = 3, changed: int = 4) -> bytes:
    """As ``opened`` says it: the file as it is when it is closed."""
    return struct.pack("<HHIQQQQQQI", 60, 1, 0, 1, 2, written, changed, 0, size, 0x80)


def data(content: bytes) -> bytes:
    return struct.pack("<HBBIII", 17, 80, 0, len(content), 0, 0) + content


def written(count: int) -> bytes:
    return struct.pack("<HHIII", 17, 0, count, 0, 0)


def folder_page(*names: str) -> bytes:
    entries = b""
    for index, name in enumerate((".", "..", *names)):
        encoded = name.encode("utf-16-le")
        last = index == len(names) + 1
        size = 64 + len(encoded)
        step = 0 if last else size + -size % 8
        entry = struct.pack("<IIQQQQQQII", step, 0, 1, 2, 3, 4, 5, 0, 0x80, len(encoded)) + encoded
        entries += entry.ljust(step, b"\0")
    return struct.pack("<HHI", 9, 72, len(entries)) + entries


# --- the set-up ----------------------------------------------------------------


def context(kind: int, data: bytes) -> bytes:
    return struct.pack("<HHI", kind, len(data), 0) + data


def preauth(algorithm: int = 1) -> bytes:
    return context(1, struct.pack("<HHH", 1, 32, algorithm) + bytes(32))


def one_of(kind: int, number: int, count: int = 1) -> bytes:
    return context(kind, struct.pack("<HH", count, number))


@dataclass
class Server:
    """What a server answers; the defaults are as they should be."""

    dialect: int = 0x0311
    contexts: list[bytes] = field(
        default_factory=lambda: [
            preauth(),
            one_of(2, Cipher.AES_128_GCM),
            one_of(8, Signing.AES_GMAC),
        ]
    )
    max_size: int = 1 << 20
    status: int = 0
    flags: int = 0
    hashed: bytes = bytes(64)

    def hear(self, frame: bytes) -> bytes:
        self.hashed = hashlib.sha512(self.hashed + frame[4:]).digest()
        return frame[4:]

    def negotiated(self) -> bytes:
        tail = b""
        for part in self.contexts:
            tail += bytes(-len(tail) % 8) + part
        body = struct.pack(
            "<HHHH16sIIIIQQHHI",
            *(65, 1, self.dialect, len(self.contexts), b"g" * 16, 0x46),
            *(self.max_size,) * 3,
            *(0, 0, 128, 0, 128),
        )
        reply = message(0, 0, body + tail, status=self.status, session_id=0)
        self.hashed = hashlib.sha512(self.hashed + reply).digest()
        return reply

    def challenge(self, message_id: int = 1) -> bytes:
        reply = message(1, message_id, setup_body(b"challenge"), status=MORE)
        self.hashed = hashlib.sha512(self.hashed + reply).digest()
        return reply

    def acceptance(self, message_id: int = 2, signing: Signing = Signing.AES_GMAC) -> bytes:
        reply = bytearray(message(1, message_id, setup_body(b"", self.flags)))
        reply[16] |= 0x08
        keys = SessionKeys.derive(SESSION_KEY, self.hashed, Cipher.AES_128_GCM)
        reply[48:64] = signature(reply, keys.signing, signing)
        return bytes(reply)


def setup_body(token: bytes, flags: int = 0) -> bytes:
    return struct.pack("<HHHH", 9, flags, 72, len(token)) + token
