"""B14: one ciphertext that two keys open. Nothing in XChaCha20-Poly1305 forbids it: the tag is a polynomial, and one
free block of the message makes two polynomials agree. What forbids it here is that the key id is compared first.

The epoch's package gives one key to one half of the members and another to the other half; the entries behind it carry
the id of the first. Who took a key by its box alone would read, under the second, something else from the same bytes.
(Under the second key it is noise that authenticates: enough to part members who do not compare.)
"""

from __future__ import annotations

from random import Random

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

from meshnode.core import aead, codec, entry, epochs
from meshnode.core.events import Now
from meshnode.core.operations import Log, encode_operation
from simulations.liars.epochs import package_of, prekeys
from simulations.liars.mind import CannotTellError, LyingNode, Mind
from simulations.liars.ring import ACTS
from simulations.liars.telling import Telling
from simulations.scenario.plan import Lie

FREE_KEY = 99
"""Of a content: a part of a newer version, which readers pass over. It holds the free block."""
BLOCK_BYTES = 16
TRIES_MAX = 200
"""Nonces; about one in three has a solution."""
_PRIME = (1 << 130) - 5
_CLAMP = 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
_WORD = 0xFFFFFFFF


def two_keys(node: LyingNode, mind: Mind, lie: Lie, now: Now) -> None:
    telling = Telling(node, mind, lie, now)
    links = telling.links(least=2)
    replica = telling.replica()
    recipients = prekeys(telling, [member.device for member in replica.group.members()])
    others = [prekey for prekey in recipients if prekey.device != node.identity.device]
    if len(others) < 2:
        raise CannotTellError("there are no two others to be parted")
    half = telling.rng.sample(others, len(others) // 2)
    key, second = (telling.rng.randbytes(epochs.EPOCH_KEY_BYTES) for _ in range(2))
    log = telling.log(replica)
    package = package_of(telling, replica, recipients, key, {prekey.device: second for prekey in half})
    telling.utter(log.write_epoch(recipients, key, telling.rng.randbytes, node.sealer, package), ACTS)
    log.go_over_to(key)
    text = telling.text()
    content = log.content(encode_operation(Log({"text": text})))
    clear = entry.clear_bytes(log.incident, log.log, 2, log.entries[-1].hash, log.key_id, None)
    data_keys = [entry.log_keys(one, log.incident, log.log).data for one in (key, second)]
    made = log.write(b"", sealed=seal_for_two(content, clear, data_keys[0], data_keys[1], telling.rng))
    telling.utter_record(made, text)
    telling.hand(log, links)


def seal_for_two(content: entry.Content, clear: bytes, first: bytes, second: bytes, rng: Random) -> bytes:
    """Nonce, ciphertext and tag that both data keys open; under the first it is this content. CannotTellError when no
    nonce had a solution."""
    fields = codec.decode_trusted(entry.encode_content(content))
    mark = rng.randbytes(2 * BLOCK_BYTES)
    plain = codec.encode({**fields, FREE_KEY: mark}) + b"\x80"
    plain += bytes(entry.padded_size(len(plain)) - len(plain))
    free = -(-plain.index(mark) // BLOCK_BYTES) * BLOCK_BYTES
    for _ in range(TRIES_MAX):
        nonce = rng.randbytes(aead.NONCE_BYTES)
        stream = keystream(first, nonce, len(plain))
        sealed = bytes(a ^ b for a, b in zip(plain, stream, strict=True))
        block = _solve(sealed, free, clear, _tag_key(first, nonce), _tag_key(second, nonce))
        if block is not None:
            whole = sealed[:free] + block + sealed[free + BLOCK_BYTES :]
            return nonce + whole + _tag(whole, clear, _tag_key(first, nonce))
    raise CannotTellError("no nonce had a solution")


def _solve(sealed: bytes, free: int, clear: bytes, first: tuple[int, int], second: tuple[int, int]) -> bytes | None:
    """The block at ``free`` that gives both keys the same tag. The polynomials are linear in it."""
    blank = sealed[:free] + bytes(BLOCK_BYTES) + sealed[free + BLOCK_BYTES :]
    blocks = _blocks(blank, clear)
    power = len(blocks) - (len(_padded(clear)) + free) // BLOCK_BYTES
    (r1, s1), (r2, s2) = first, second
    rest1, rest2 = _polynomial(blocks, r1), _polynomial(blocks, r2)
    slope = (pow(r1, power, _PRIME) - pow(r2, power, _PRIME)) % _PRIME
    inverse = pow(slope, -1, _PRIME)
    for wrap in range(-4, 5):  # tags are compared modulo 2**128, the polynomials live modulo 2**130 - 5
        value = ((s2 - s1 + (wrap << 128)) - (rest1 - rest2)) * inverse % _PRIME
        if value < 1 << 128:
            block = value.to_bytes(BLOCK_BYTES, "little")
            whole = sealed[:free] + block + sealed[free + BLOCK_BYTES :]
            if _tag(whole, clear, first) == _tag(whole, clear, second):
                return block
    return None


# --- XChaCha20-Poly1305 (RFC 8439, draft-irtf-cfrg-xchacha), as far as it is needed -----------------------------------


def keystream(key: bytes, nonce: bytes, length: int, counter: int = 1) -> bytes:
    """Of XChaCha20; the sealed part begins at block 1."""
    whole = counter.to_bytes(4, "little") + bytes(4) + nonce[16:]
    return Cipher(ChaCha20(_subkey(key, nonce[:16]), whole), None).encryptor().update(bytes(length))


def _tag_key(key: bytes, nonce: bytes) -> tuple[int, int]:
    block = keystream(key, nonce, 32, counter=0)
    return int.from_bytes(block[:16], "little") & _CLAMP, int.from_bytes(block[16:], "little")


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % BLOCK_BYTES)


def _blocks(sealed: bytes, clear: bytes) -> list[int]:
    data = _padded(clear) + _padded(sealed) + len(clear).to_bytes(8, "little") + len(sealed).to_bytes(8, "little")
    return [
        int.from_bytes(data[at : at + BLOCK_BYTES], "little") + (1 << 128) for at in range(0, len(data), BLOCK_BYTES)
    ]


def _polynomial(blocks: list[int], r: int) -> int:
    value = 0
    for block in blocks:
        value = (value + block) * r % _PRIME
    return value


def _tag(sealed: bytes, clear: bytes, key: tuple[int, int]) -> bytes:
    r, s = key
    return ((_polynomial(_blocks(sealed, clear), r) + s) % (1 << 128)).to_bytes(BLOCK_BYTES, "little")


def _subkey(key: bytes, nonce: bytes) -> bytes:
    """HChaCha20."""
    words = [0x61707865, 0x3320646E, 0x79622D32, 0x6B206574]
    words += [int.from_bytes((key + nonce)[at : at + 4], "little") for at in range(0, 48, 4)]
    for _ in range(10):
        for a, b, c, d in ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15)):
            _quarter(words, a, b, c, d)
        for a, b, c, d in ((0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14)):
            _quarter(words, a, b, c, d)
    return b"".join(word.to_bytes(4, "little") for word in words[:4] + words[12:])


def _quarter(words: list[int], a: int, b: int, c: int, d: int) -> None:
    for x, y, z, turn in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
        words[x] = (words[x] + words[y]) & _WORD
        mixed = words[z] ^ words[x]
        words[z] = (mixed << turn | mixed >> (32 - turn)) & _WORD
