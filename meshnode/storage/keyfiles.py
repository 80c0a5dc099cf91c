"""Key files: what makes a data directory *this* node, and how secrets touch the disk.

| file in the data directory | content | secret |
|---|---|---|
| ``device.key`` | seed of the device's Ed25519 key | yes |
| ``store.key`` | 32 random bytes that seal secrets at rest | yes |
| ``device.request`` | what the NOC authority is asked to certify | no |
| ``certificate`` | the bundle: NOC certificate and device certificate | no |
| ``network.root`` | public key of the network root, the anchor of every chain | no, but nobody else may change it |

Rules. A secret is written only to a new file: never over another, never readable by anybody else, complete and synced
before it has its name. It is read only from a regular file of this user that nobody else may open; a key that others
could have read is no longer a key, so the refusal says what to do rather than going on. Public files follow the same
path, minus the secrecy: nobody else may be able to change them. No error, log line or ``repr`` here ever holds content.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path

from meshnode.core import certificates
from meshnode.core.certificates import Certificate
from meshnode.core.identity import Identity
from meshnode.core.keys import PUBLIC_KEY_BYTES, SEED_BYTES, PublicKey, SigningKey
from meshnode.errors import LocalFaultError, UntrustedInputError
from meshnode.storage import armour

DEVICE_KEY_FILE = "device.key"
STORE_KEY_FILE = "store.key"
REQUEST_FILE = "device.request"
CERTIFICATE_FILE = "certificate"
NETWORK_ROOT_FILE = "network.root"

DEVICE_KEY_LABEL = "DEVICE KEY"
STORE_KEY_LABEL = "STORE KEY"
REQUEST_LABEL = "DEVICE REQUEST"
CERTIFICATE_LABEL = "DEVICE CERTIFICATE"
NETWORK_ROOT_LABEL = "NETWORK ROOT"

STORE_KEY_BYTES = 32

_PRIVATE_MODE = 0o600
_PUBLIC_MODE = 0o644
_OTHERS_ANY = 0o077
_OTHERS_WRITE = 0o022


# --- the node's own files ---------------------------------------------------------------------------------------


def create_node_keys(data_dir: Path) -> SigningKey:
    """Make ``device.key`` and ``store.key``. Refuses with LocalFaultError ``key-file-exists`` if either is there."""
    make_private_directory(data_dir)
    for name in (DEVICE_KEY_FILE, STORE_KEY_FILE):
        if (data_dir / name).exists():
            raise _exists(data_dir / name)
    write_new(data_dir / STORE_KEY_FILE, STORE_KEY_LABEL, secrets.token_bytes(STORE_KEY_BYTES), private=True)
    seed = secrets.token_bytes(SEED_BYTES)
    write_new(data_dir / DEVICE_KEY_FILE, DEVICE_KEY_LABEL, seed, private=True)
    return SigningKey(seed)


def read_device_key(data_dir: Path) -> SigningKey:
    return SigningKey(_read_sized(data_dir / DEVICE_KEY_FILE, DEVICE_KEY_LABEL, SEED_BYTES, private=True))


def read_store_key(data_dir: Path) -> bytes:
    return _read_sized(data_dir / STORE_KEY_FILE, STORE_KEY_LABEL, STORE_KEY_BYTES, private=True)


def read_network_root(data_dir: Path) -> PublicKey:
    return PublicKey(_read_sized(data_dir / NETWORK_ROOT_FILE, NETWORK_ROOT_LABEL, PUBLIC_KEY_BYTES, private=False))


def read_certificate(data_dir: Path, network_root: PublicKey) -> Certificate:
    """The enrolled certificate, its chain verified. LocalFaultError ``certificate-damaged`` when it is not right."""
    path = data_dir / CERTIFICATE_FILE
    bundle = read(path, CERTIFICATE_LABEL, private=False)
    try:
        return certificates.verify_bundle_untrusted(bundle, network_root)
    except UntrustedInputError as error:
        raise LocalFaultError(
            "certificate-damaged",
            f"{path}: {error.reason}",
            f"enrol again: meshnode enrol --data {shlex.quote(str(data_dir))} BUNDLE",
        ) from None


def read_identity(data_dir: Path) -> Identity:
    """All of it, and that it belongs together. Raises LocalFaultError; dates are judged by whoever has a clock."""
    device_key = read_device_key(data_dir)
    store_key = read_store_key(data_dir)
    if not (data_dir / CERTIFICATE_FILE).exists():
        raise LocalFaultError(
            "not-enrolled",
            f"{data_dir} has keys, but no certificate",
            f"have {data_dir / REQUEST_FILE} certified, then: meshnode enrol --data {shlex.quote(str(data_dir))} FILE",
        )
    network_root = read_network_root(data_dir)
    certificate = read_certificate(data_dir, network_root)
    if certificate.device != device_key.device_id:
        raise LocalFaultError(
            "certificate-other-device",
            f"{data_dir / CERTIFICATE_FILE} is for another device key than {DEVICE_KEY_FILE}",
            "put back the certificate of this device, or have its device.request certified and enrol again",
        )
    return Identity(device_key, store_key, certificate, network_root)


# --- files ------------------------------------------------------------------------------------------------------


def make_private_directory(path: Path) -> None:
    """The directory, made with mode 0700 if it is not there. An existing one is left as it is."""
    with _translated(path):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)


def write_new(path: Path, label: str, content: bytes, *, private: bool) -> None:
    """Write a file that must not exist yet: whole, synced and under its name, or not at all."""
    with _translated(path):
        temporary = _write_temporary(path, armour.encode(label, content), private)
        try:
            # A hard link fails if the name is taken, where a rename would silently replace a key.
            os.link(temporary, path)
        except FileExistsError:
            raise _exists(path) from None
        finally:
            os.unlink(temporary)
        _sync_directory(path.parent)


def replace(path: Path, label: str, content: bytes) -> None:
    """Write a public file, in place of what was there. Readers see the old or the new one, never a part."""
    replace_text(path, armour.encode(label, content))


def replace_text(path: Path, text: bytes) -> None:
    """As :func:`replace`, for a public file without armour."""
    with _translated(path):
        temporary = _write_temporary(path, text, private=False)
        try:
            os.rename(temporary, path)
        except OSError:
            os.unlink(temporary)
            raise
        _sync_directory(path.parent)


def read(path: Path, label: str, *, private: bool) -> bytes:
    """The content of an armoured file of this node. Raises LocalFaultError ``key-file-*``.

    The permissions checked are those of the opened file, so nothing can be swapped in between.
    """
    with _translated(path, _remedy(path, label) if label == NETWORK_ROOT_LABEL else ""):
        # Without O_NONBLOCK, a pipe put in the place of a key would hang the start.
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            status = os.fstat(handle)
            _check_status(path, status, private)
            data = os.read(handle, armour.FILE_BYTES_MAX + 1)
        finally:
            os.close(handle)
    try:
        return armour.decode_untrusted(data, label)
    except UntrustedInputError as error:
        raise _damaged(path, label, error.reason) from None


def read_handed_in(path: Path, label: str) -> bytes:
    """The content of an armoured file that came from somebody else. A bad one is the sender's fault:
    UntrustedInputError ``armour-*``; one that cannot be opened is LocalFaultError."""
    with _translated(path, "is this the path of the file that was handed over?"), path.open("rb") as file:
        data = file.read(armour.FILE_BYTES_MAX + 1)
    return armour.decode_untrusted(data, label)


def _read_sized(path: Path, label: str, size_bytes: int, *, private: bool) -> bytes:
    content = read(path, label, private=private)
    if len(content) != size_bytes:
        raise _damaged(path, label, f"{label} must have {size_bytes} bytes")
    return content


def _check_status(path: Path, status: os.stat_result, private: bool) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise LocalFaultError("key-file-not-a-file", f"{path} is not a regular file", "put the real file there")
    mode = f"mode {stat.S_IMODE(status.st_mode):04o}"
    # Root may own the public files of a packaged installation; a secret belongs to the user that uses it.
    owners = {os.geteuid()} if private else {os.geteuid(), 0}
    if status.st_uid not in owners:
        raise LocalFaultError(
            "key-file-owner",
            f"{path} belongs to user id {status.st_uid}, this process runs as {os.geteuid()}",
            f"run meshnode as that user, or: chown {os.geteuid()} {shlex.quote(str(path))}",
        )
    if private and status.st_mode & _OTHERS_ANY:
        raise LocalFaultError(
            "key-file-exposed",
            f"{path} can be opened by others ({mode})",
            f"chmod 600 {shlex.quote(str(path))} (and if anybody may have read it, make a new key and enrol again)",
        )
    if status.st_mode & _OTHERS_WRITE:
        raise LocalFaultError(
            "key-file-writable",
            f"{path} can be changed by others ({mode})",
            f"chmod go-w {shlex.quote(str(path))} (and check with meshnode identity show that it is still yours)",
        )


def _write_temporary(path: Path, text: bytes, private: bool) -> Path:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    handle = os.open(temporary, flags, _PRIVATE_MODE)
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), _PRIVATE_MODE if private else _PUBLIC_MODE)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        os.unlink(temporary)
        raise
    return temporary


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def _translated(path: Path, if_missing: str = "") -> Iterator[None]:
    """The operating system's errors as ours, once, at this border."""
    try:
        yield
    except FileNotFoundError:
        raise LocalFaultError(
            "key-file-missing",
            f"{path} does not exist",
            if_missing
            or "check the directory, or restore the file from the back-up; a new node starts with: meshnode init",
        ) from None
    except PermissionError:
        raise LocalFaultError(
            "key-file-not-permitted", f"{path} cannot be opened by this user", "run meshnode as the owner of the file"
        ) from None
    except OSError as error:
        what = errno.errorcode.get(error.errno or 0, "unknown error")
        raise LocalFaultError(
            "key-file-unusable", f"{path}: {error.strerror} ({what})", "check the disk: space, mount and permissions"
        ) from None


def _exists(path: Path) -> LocalFaultError:
    return LocalFaultError(
        "key-file-exists",
        f"{path} is there already and is not overwritten",
        "use another directory; or move the file away if this node is to become a new device",
    )


def _damaged(path: Path, label: str, reason: str) -> LocalFaultError:
    return LocalFaultError("key-file-damaged", f"{path}: {reason}", _remedy(path, label))


def _remedy(path: Path, label: str) -> str:
    """What brings a file back. Only a secret that is lost needs a new key; a public file exists elsewhere too."""
    enrol = f"meshnode enrol --data {shlex.quote(str(path.parent))}"
    if label == CERTIFICATE_LABEL:
        return f"enrol the file of the NOC authority again, the key is as it was: {enrol} FILE"
    if label == NETWORK_ROOT_LABEL:
        return (
            "it is no secret, and the same at every node of the network: put it back from a backup or from "
            f"another node; or move it away and enrol again: {enrol} --network-root FILE CERTIFICATE"
        )
    return "put the file back from a backup, or make a new key and enrol again"
