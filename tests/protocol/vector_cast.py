"""The people of the vectors: one network, a few devices, one incident. Every key comes from its name."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from meshnode.core import certificates, epochs, prekeys
from meshnode.core.acts import incident_id
from meshnode.core.ids import DeviceId, EntryHash, IncidentId, LogId, ObjectId
from meshnode.core.keys import PublicKey, SigningKey
from meshnode.core.prekeys import Prekey, PrekeySecret, prekey_untrusted

NOW_S = 1_790_000_000
NOW_MS = NOW_S * 1000
YEAR_S = 365 * 24 * 3600


def secret(name: str, length: int = 32) -> bytes:
    """Bytes that stand for randomness: SHAKE-128 of a name."""
    return hashlib.shake_128(b"meshnode vectors: " + name.encode()).digest(length)


def key(name: str) -> SigningKey:
    return SigningKey(secret(name))


@dataclass(frozen=True)
class Device:
    noc: str
    name: str
    key: SigningKey
    bundle: bytes
    private: PrekeySecret
    prekey: Prekey

    @property
    def id(self) -> DeviceId:
        return self.key.device_id


NETWORK_ROOT = key("network root")
NETWORK = PublicKey(NETWORK_ROOT.public)
OTHER_NETWORK_ROOT = key("another network root")


def noc_certificate(noc: str, root: SigningKey = NETWORK_ROOT) -> bytes:
    noc_root = key(f"noc root {noc}")
    request = certificates.NocRequest(noc, PublicKey(noc_root.public))
    return certificates.make_noc_certificate(root, request, NOW_S - YEAR_S, NOW_S + 10 * YEAR_S)


def device_certificate(
    noc: str, name: str, *, signer: str = "", network: PublicKey = NETWORK, relay: bool = True, years: int = 1
) -> bytes:
    """``signer``: the NOC whose root signs; its own, unless told otherwise."""
    request = certificates.DeviceRequest(noc, name, key(f"device {name}").device_id)
    return certificates.make_device_certificate(
        key(f"noc root {signer or noc}"),
        network,
        request,
        relay=relay,
        not_before_s=NOW_S - YEAR_S,
        not_after_s=NOW_S + years * YEAR_S,
        serial=1,
    )


def device(noc: str, name: str, relay: bool = True) -> Device:
    bundle = certificates.make_bundle(noc_certificate(noc), device_certificate(noc, name, relay=relay))
    device_key = key(f"device {name}")
    private, record = prekeys.make_prekey(
        device_key, bundle, NOW_S, NOW_MS, lambda size: secret(f"prekey {name}", size)
    )
    return Device(noc, name, device_key, bundle, private, prekey_untrusted(record))


BE, NL, FR = device("BE", "be-1"), device("NL", "nl-1", relay=False), device("FR", "fr-1")

NONCE = secret("incident nonce", 16)
INCIDENT: IncidentId = incident_id(BE.id, NONCE)
EPOCH_KEY = secret("epoch key 1")
EPOCH_KEY_2 = secret("epoch key 2")
KEY_ID = epochs.key_id(EPOCH_KEY)
KEY_ID_2 = epochs.key_id(EPOCH_KEY_2)

LOG_KEY = key("log of be-1")
LOG = LogId(LOG_KEY.public)
LOG_2 = LogId(key("log of nl-1").public)
LOG_3 = LogId(key("log of fr-1").public)
PERSON = ObjectId(secret("a person", 16))
VEHICLE = ObjectId(secret("a vehicle", 16))
HASH = EntryHash(secret("an entry hash"))
HASH_2 = EntryHash(secret("another entry hash"))
