"""The authority ceremony: two kinds of root key, kept offline, that speak by files.

    network root             NOC root                      node
    init --network   ┐
                     │       init --noc ── noc.request ┐
    certify ◄────────┼─────────────────────────────────┘
       └── NOC certificate ─► accept                       init ── device.request ┐
                             certify ◄────────────────────────────────────────────┘
                                └── device certificate (bundle) ───► enrol

An authority is a directory: its root key (0600, under a passphrase if wanted), what it is (``authority.json``), and
``issued.jsonl``, one line for each certificate it ever signed. The line is durable before the certificate is handed
out, so a lost certificate is known and an unknown one is a forgery. The network root certifies one key per NOC and a
NOC root one key per device name; another key for the same name is refused unless the operator says that it replaces
the first. Whoever runs the ceremony compares fingerprints by voice: the files prove nothing about people.
"""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from meshnode.core import certificates
from meshnode.core.keys import SEED_BYTES, PublicKey, SigningKey
from meshnode.core.names import is_noc_code
from meshnode.errors import LocalFaultError, RefusedError, UntrustedInputError
from meshnode.storage import keyfiles, sealed_key

NETWORK = "network"
NOC = "noc"

DEVICE_DAYS = 365
NOC_DAYS = 3650
DAYS_MAX = 36_500
"""A century: a larger number is a typing error."""
DAY_S = 86_400
NAME_CHARACTERS_MAX = 64
"""A network's name is for people: it fits a line of a listing."""

ROOT_KEY_FILE = "root.key"
ABOUT_FILE = "authority.json"
ISSUED_FILE = "issued.jsonl"
NOC_REQUEST_FILE = "noc.request"
NOC_CERTIFICATE_FILE = "noc.certificate"

ROOT_KEY_LABEL = "ROOT KEY"
NOC_REQUEST_LABEL = "NOC REQUEST"
NOC_CERTIFICATE_LABEL = "NOC CERTIFICATE"


@dataclass(frozen=True, slots=True)
class Authority:
    """What an authority directory is, without its key."""

    kind: str
    name: str
    """The network's name, or the NOC code."""
    root: PublicKey
    sealed: bool
    """The root key is under a passphrase."""
    network: PublicKey | None
    """The network root; None for a NOC root that has not accepted its certificate yet."""


@dataclass(frozen=True, slots=True)
class Issued:
    """One certificate that was signed, as ``issued.jsonl`` keeps it."""

    subject: str
    """``BE`` or ``BE/be-1``."""
    key: str
    relay: bool
    not_before_s: int
    not_after_s: int
    serial: str
    """16 hexadecimal digits; zeros for a NOC. Text, because JSON readers round numbers of 64 bits."""


# --- the three acts ---------------------------------------------------------------------------------------------


def init_network(directory: Path, name: str, passphrase: bytes | None) -> Authority:
    """A new network: its root key and ``network.root``, the public anchor that nodes may be given."""
    if not 1 <= len(name) <= NAME_CHARACTERS_MAX or not name.isprintable():
        raise RefusedError(
            "bad-name", f"a network name has 1 to {NAME_CHARACTERS_MAX} printable characters", "choose another name"
        )
    root = _init(directory, NETWORK, name, passphrase)
    keyfiles.replace(directory / keyfiles.NETWORK_ROOT_FILE, keyfiles.NETWORK_ROOT_LABEL, root.public)
    return describe(directory)


def init_noc(directory: Path, noc: str, passphrase: bytes | None) -> Authority:
    """A new NOC root key, and ``noc.request`` for the network authority."""
    if not is_noc_code(noc):
        raise RefusedError(
            "bad-name", f"{noc!r} is no NOC code: 2 to 8 capital letters and digits", "write a code like BE or EU"
        )
    root = _init(directory, NOC, noc, passphrase)
    request = certificates.make_noc_request(root, noc)
    keyfiles.replace(directory / NOC_REQUEST_FILE, NOC_REQUEST_LABEL, request)
    return describe(directory)


def accept(directory: Path, certificate_file: Path, network_root: PublicKey | None, now_s: float) -> Authority:
    """Take in the NOC certificate that the network authority made. Without ``network_root`` the network it names is
    believed, and a person must compare its fingerprint."""
    about = describe(directory)
    _demand_kind(about, NOC, "only a NOC authority accepts a NOC certificate")
    data = keyfiles.read_handed_in(certificate_file, NOC_CERTIFICATE_LABEL)
    anchor = network_root or about.network or certificates.claimed_network_untrusted(data)
    certificate = certificates.verify_noc_certificate_untrusted(data, anchor)
    certificates.check_validity(certificate, now_s)
    if (certificate.noc, certificate.noc_root) != (about.name, about.root):
        raise UntrustedInputError(
            "certificate-other-root",
            f"the certificate is for {certificate.noc} or for another root key",
            f"hand in the certificate made from {directory / NOC_REQUEST_FILE}",
        )
    keyfiles.replace(directory / keyfiles.NETWORK_ROOT_FILE, keyfiles.NETWORK_ROOT_LABEL, anchor)
    keyfiles.replace(directory / NOC_CERTIFICATE_FILE, NOC_CERTIFICATE_LABEL, data)
    return describe(directory)


def certify(
    directory: Path,
    request_file: Path,
    out: Path,
    *,
    days: int | None,
    relay: bool,
    replace: bool,
    passphrase: bytes | None,
    now_s: float,
) -> Issued:
    """Sign a request: the network root signs NOCs, a NOC root signs devices of its own NOC (else ``wrong-noc``)."""
    about = describe(directory)
    if out.exists():
        raise LocalFaultError("key-file-exists", f"{out} is there already", "name another file with --out")
    days = days or (NOC_DAYS if about.kind == NETWORK else DEVICE_DAYS)
    if not 1 <= days <= DAYS_MAX:
        raise RefusedError("bad-days", f"{days} days is outside 1 to {DAYS_MAX}", "give a sensible number of days")
    dates = int(now_s), int(now_s) + days * DAY_S
    if about.kind == NETWORK:
        if relay:
            raise RefusedError("relay-not-for-nocs", "only a device can be a relay", "leave out --relay")
        issued, label, data = _certify_noc(directory, about, request_file, dates, replace, passphrase)
    else:
        issued, label, data = _certify_device(directory, about, request_file, dates, relay, replace, passphrase)
    _append_issued(directory, issued)
    keyfiles.write_new(out, label, data, private=False)
    return issued


def describe(directory: Path) -> Authority:
    """What this directory is. Raises LocalFaultError ``authority-*`` when it is no authority."""
    try:
        about = json.loads((directory / ABOUT_FILE).read_bytes()[:4096])
        kind, name, sealed = str(about["kind"]), str(about["name"]), bool(about["sealed"])
        root = bytes.fromhex(about["root"])
    except (OSError, ValueError, KeyError, TypeError):
        raise LocalFaultError(
            "authority-missing",
            f"{directory} is not an authority directory, or its {ABOUT_FILE} is damaged",
            f"give the directory made by meshnode authority init, or restore its {ABOUT_FILE} from the back-up",
        ) from None
    has_network = (directory / keyfiles.NETWORK_ROOT_FILE).exists()
    network = keyfiles.read_network_root(directory) if has_network else None
    return Authority(kind, name, PublicKey(root), sealed, network)


def issued(directory: Path) -> list[Issued]:
    """Every certificate this authority signed, oldest first."""
    try:
        lines = (directory / ISSUED_FILE).read_text("utf-8").splitlines()
        return [Issued(**json.loads(line)) for line in lines]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError):
        raise LocalFaultError(
            "authority-damaged",
            f"{directory / ISSUED_FILE} cannot be read",
            "put it back from a backup: it says which keys are certified already",
        ) from None


# --- inside -----------------------------------------------------------------------------------------------------


def _init(directory: Path, kind: str, name: str, passphrase: bytes | None) -> SigningKey:
    keyfiles.make_private_directory(directory)
    root = SigningKey(secrets.token_bytes(SEED_BYTES))
    content = root.seed if passphrase is None else sealed_key.seal(root.seed, passphrase)
    label = ROOT_KEY_LABEL if passphrase is None else sealed_key.label(ROOT_KEY_LABEL)
    keyfiles.write_new(directory / ROOT_KEY_FILE, label, content, private=True)
    about = {"format": 1, "kind": kind, "name": name, "root": root.public.hex(), "sealed": passphrase is not None}
    keyfiles.replace_text(directory / ABOUT_FILE, json.dumps(about).encode("ascii") + b"\n")
    return root


def _read_root(directory: Path, about: Authority, passphrase: bytes | None) -> SigningKey:
    path = directory / ROOT_KEY_FILE
    if not about.sealed:
        seed = keyfiles.read(path, ROOT_KEY_LABEL, private=True)
    elif passphrase is None:
        raise LocalFaultError("passphrase-needed", f"{path} is under a passphrase", "give it with --passphrase-file")
    else:
        seed = sealed_key.open_sealed(keyfiles.read(path, sealed_key.label(ROOT_KEY_LABEL), private=True), passphrase)
    if len(seed) == SEED_BYTES:
        root = SigningKey(seed)
        if root.public == about.root:
            return root
    raise LocalFaultError(
        "key-file-damaged", f"{path} is not the root key of this authority", "put the file back from a backup"
    )


def _certify_noc(
    directory: Path,
    about: Authority,
    request_file: Path,
    dates: tuple[int, int],
    replace: bool,
    passphrase: bytes | None,
) -> tuple[Issued, str, bytes]:
    data = keyfiles.read_handed_in(request_file, NOC_REQUEST_LABEL)
    request = certificates.read_noc_request_untrusted(data)
    record = Issued(request.noc, request.noc_root.hex(), False, *dates, serial=f"{0:016x}")
    _demand_new(directory, record, replace)
    root = _read_root(directory, about, passphrase)
    return record, NOC_CERTIFICATE_LABEL, certificates.make_noc_certificate(root, request, *dates)


def _certify_device(
    directory: Path,
    about: Authority,
    request_file: Path,
    dates: tuple[int, int],
    relay: bool,
    replace: bool,
    passphrase: bytes | None,
) -> tuple[Issued, str, bytes]:
    data = keyfiles.read_handed_in(request_file, keyfiles.REQUEST_LABEL)
    request = certificates.read_device_request_untrusted(data)
    if request.noc != about.name:
        raise RefusedError(
            "wrong-noc",
            f"the request is for a device of {request.noc}; this authority certifies devices of {about.name} only",
            f"hand the request to the authority of {request.noc}",
        )
    if about.network is None:
        raise RefusedError(
            "authority-not-certified",
            f"the network authority has not certified {about.name} yet",
            f"have {directory / NOC_REQUEST_FILE} certified, then: meshnode authority accept",
        )
    serial = int.from_bytes(secrets.token_bytes(8), "big")
    record = Issued(f"{request.noc}/{request.name}", request.device.hex(), relay, *dates, serial=f"{serial:016x}")
    _demand_new(directory, record, replace)
    noc_certificate = keyfiles.read(directory / NOC_CERTIFICATE_FILE, NOC_CERTIFICATE_LABEL, private=False)
    root = _read_root(directory, about, passphrase)
    signed = certificates.make_device_certificate(
        root,
        about.network,
        request,
        relay=relay,
        not_before_s=dates[0],
        not_after_s=dates[1],
        serial=serial,
    )
    bundle = certificates.make_bundle(noc_certificate, signed)
    certificates.verify_bundle_untrusted(bundle, about.network)
    return record, keyfiles.CERTIFICATE_LABEL, bundle


def _demand_new(directory: Path, record: Issued, replace: bool) -> None:
    """The same key may be certified again (a renewal); another key under the same name is an impostor or a
    replacement, and only a person knows which."""
    others = [old for old in issued(directory) if old.subject == record.subject and old.key != record.key]
    if others and not replace:
        raise RefusedError(
            "already-certified",
            f"{record.subject} was certified before with another key",
            "if the old key is gone or stolen, say so with --replace (the old certificate stays valid until it ends)",
        )


def _demand_kind(about: Authority, kind: str, reason: str) -> None:
    if about.kind != kind:
        raise RefusedError("wrong-authority", f"{reason}; this is a {about.kind} authority", "use the other directory")


def _append_issued(directory: Path, record: Issued) -> None:
    path = directory / ISSUED_FILE
    line: dict[str, Any] = asdict(record)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "ab") as file:
            file.write(json.dumps(line).encode("ascii") + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise LocalFaultError(
            "authority-not-written", f"{path}: {error.strerror}", "check the disk; nothing was certified"
        ) from None
