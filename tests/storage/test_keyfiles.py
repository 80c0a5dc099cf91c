"""Key files: written whole and private or not at all, read only while nobody else can, never shown."""

from __future__ import annotations

import base64
import errno
import os
import stat
import traceback
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode import enrolment
from meshnode.core import certificates
from meshnode.core.keys import SigningKey
from meshnode.errors import LocalFaultError, MeshnodeError, UntrustedInputError
from meshnode.storage import armour, keyfiles, sealed_key

NETWORK, NOC_ROOT = SigningKey(b"N" * 32), SigningKey(b"B" * 32)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "node"


def enrol(data_dir: Path, key: SigningKey) -> bytes:
    noc = certificates.make_noc_certificate(NETWORK, certificates.NocRequest("BE", NOC_ROOT.public), 1, 2**31)
    device = certificates.make_device_certificate(
        NOC_ROOT,
        NETWORK.public,
        certificates.DeviceRequest("BE", "be-1", key.device_id),
        relay=False,
        not_before_s=1,
        not_after_s=2**31,
        serial=1,
    )
    bundle = certificates.make_bundle(noc, device)
    keyfiles.replace(data_dir / keyfiles.NETWORK_ROOT_FILE, keyfiles.NETWORK_ROOT_LABEL, NETWORK.public)
    keyfiles.replace(data_dir / keyfiles.CERTIFICATE_FILE, keyfiles.CERTIFICATE_LABEL, bundle)
    return bundle


def fault(call: object, *arguments: object) -> LocalFaultError:
    with pytest.raises(LocalFaultError) as caught:
        call(*arguments)
    assert caught.value.action
    return caught.value


def test_new_keys_are_private_and_come_back_as_they_were_made(data_dir: Path) -> None:
    made = keyfiles.create_node_keys(data_dir)
    assert keyfiles.read_device_key(data_dir).public == made.public
    assert len(keyfiles.read_store_key(data_dir)) == keyfiles.STORE_KEY_BYTES
    assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700
    for name in (keyfiles.DEVICE_KEY_FILE, keyfiles.STORE_KEY_FILE):
        assert stat.S_IMODE((data_dir / name).stat().st_mode) == 0o600


def test_a_wide_umask_and_a_narrow_one_give_the_same_modes(data_dir: Path) -> None:
    for name, umask in (("wide", 0o000), ("narrow", 0o777)):
        data_dir.mkdir(exist_ok=True)
        before = os.umask(umask)
        try:
            keyfiles.write_new(data_dir / name, "DEVICE KEY", b"k" * 32, private=True)
            keyfiles.replace(data_dir / f"{name}-public", "NETWORK ROOT", b"r" * 32)
        finally:
            os.umask(before)
        assert stat.S_IMODE((data_dir / name).stat().st_mode) == 0o600
        assert stat.S_IMODE((data_dir / f"{name}-public").stat().st_mode) == 0o644


def test_two_nodes_never_get_the_same_keys(tmp_path: Path) -> None:
    first, second = (keyfiles.create_node_keys(tmp_path / name) for name in ("a", "b"))
    assert first.public != second.public
    assert keyfiles.read_store_key(tmp_path / "a") != keyfiles.read_store_key(tmp_path / "b")


def test_keys_that_are_there_are_never_overwritten(data_dir: Path) -> None:
    keyfiles.create_node_keys(data_dir)
    before = {path.name: path.read_bytes() for path in data_dir.iterdir()}
    assert fault(keyfiles.create_node_keys, data_dir).code == "key-file-exists"
    with pytest.raises(LocalFaultError, match="key-file-exists"):
        keyfiles.write_new(data_dir / keyfiles.DEVICE_KEY_FILE, "DEVICE KEY", b"x" * 32, private=True)
    assert {path.name: path.read_bytes() for path in data_dir.iterdir()} == before


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o610, 0o601, 0o620])
def test_a_key_that_others_can_open_is_refused_with_the_command_that_mends_it(data_dir: Path, mode: int) -> None:
    keyfiles.create_node_keys(data_dir)
    path = data_dir / keyfiles.DEVICE_KEY_FILE
    path.chmod(mode)
    error = fault(keyfiles.read_device_key, data_dir)
    assert error.code == "key-file-exposed"
    assert f"chmod 600 {path}" in error.action


def test_a_key_of_another_user_is_refused(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keyfiles.create_node_keys(data_dir)
    mine = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: mine + 1)
    assert fault(keyfiles.read_device_key, data_dir).code == "key-file-owner"


def test_a_network_root_that_others_can_change_is_refused(data_dir: Path) -> None:
    enrol_dir = data_dir
    key = keyfiles.create_node_keys(enrol_dir)
    enrol(enrol_dir, key)
    (enrol_dir / keyfiles.NETWORK_ROOT_FILE).chmod(0o664)
    assert fault(keyfiles.read_identity, enrol_dir).code == "key-file-writable"


def test_a_missing_key_says_how_a_node_begins(data_dir: Path) -> None:
    error = fault(keyfiles.read_device_key, data_dir)
    assert error.code == "key-file-missing"
    assert "meshnode init" in error.action


def test_a_directory_or_a_pipe_in_the_place_of_a_key_is_refused_and_does_not_hang(data_dir: Path) -> None:
    (data_dir / keyfiles.DEVICE_KEY_FILE).mkdir(parents=True)
    assert fault(keyfiles.read_device_key, data_dir).code == "key-file-not-a-file"
    os.mkfifo(data_dir / keyfiles.STORE_KEY_FILE, 0o600)
    assert fault(keyfiles.read_store_key, data_dir).code == "key-file-not-a-file"


def test_every_prefix_of_a_key_file_is_damaged(data_dir: Path) -> None:
    keyfiles.create_node_keys(data_dir)
    path = data_dir / keyfiles.STORE_KEY_FILE
    whole = path.read_bytes()
    for size in range(len(whole) - 1):  # the last byte is the newline, which an editor may take away
        path.write_bytes(whole[:size])
        assert fault(keyfiles.read_store_key, data_dir).code == "key-file-damaged"


def test_no_changed_byte_of_a_key_file_gives_another_key(data_dir: Path) -> None:
    keyfiles.create_node_keys(data_dir)
    path = data_dir / keyfiles.STORE_KEY_FILE
    whole = path.read_bytes()
    key = keyfiles.read_store_key(data_dir)
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        try:
            outcome: object = keyfiles.read_store_key(data_dir)
        except LocalFaultError as error:
            outcome = error.code
        assert outcome in (key, "key-file-damaged")


def test_a_store_key_in_the_place_of_the_device_key_is_refused(data_dir: Path) -> None:
    keyfiles.create_node_keys(data_dir)
    (data_dir / keyfiles.DEVICE_KEY_FILE).write_bytes((data_dir / keyfiles.STORE_KEY_FILE).read_bytes())
    assert fault(keyfiles.read_device_key, data_dir).code == "key-file-damaged"


def test_a_full_disk_leaves_neither_a_key_nor_a_trace(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    error = fault(keyfiles.create_node_keys, data_dir)
    assert error.code == "key-file-unusable"
    assert "ENOSPC" in error.reason
    assert list(data_dir.iterdir()) == []


def test_a_name_is_given_only_after_the_content_is_on_disk(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    real_fsync, real_link = os.fsync, os.link
    monkeypatch.setattr(os, "fsync", lambda handle: (order.append("fsync"), real_fsync(handle))[1])
    monkeypatch.setattr(os, "link", lambda *names: (order.append("link"), real_link(*names))[1])
    data_dir.mkdir()
    keyfiles.write_new(data_dir / "key", "DEVICE KEY", b"k" * 32, private=True)
    assert order == ["fsync", "link", "fsync"]
    assert [path.name for path in data_dir.iterdir()] == ["key"]


def test_an_enrolled_directory_gives_the_whole_identity(data_dir: Path) -> None:
    key = keyfiles.create_node_keys(data_dir)
    bundle = enrol(data_dir, key)
    identity = keyfiles.read_identity(data_dir)
    assert identity.device == key.device_id
    assert identity.network_root == NETWORK.public
    assert identity.certificate.bundle == bundle


def test_a_directory_with_keys_alone_is_not_enrolled(data_dir: Path) -> None:
    keyfiles.create_node_keys(data_dir)
    error = fault(keyfiles.read_identity, data_dir)
    assert error.code == "not-enrolled"
    assert "meshnode enrol" in error.action


def test_a_lost_network_root_is_named_though_the_certificate_is_there(data_dir: Path) -> None:
    enrol(data_dir, keyfiles.create_node_keys(data_dir))
    (data_dir / keyfiles.NETWORK_ROOT_FILE).unlink()
    error = fault(keyfiles.read_identity, data_dir)
    assert (error.code, error.reason) == ("key-file-missing", f"{data_dir / 'network.root'} does not exist")
    assert "--network-root" in error.action
    assert fault(enrolment.read_enrolment, data_dir).code == "key-file-missing"


def test_a_damaged_public_file_needs_no_new_key(data_dir: Path) -> None:
    enrol(data_dir, keyfiles.create_node_keys(data_dir))
    (data_dir / keyfiles.CERTIFICATE_FILE).write_bytes(b"")
    error = fault(keyfiles.read_identity, data_dir)
    assert error.code == "key-file-damaged"
    assert f"meshnode enrol --data {data_dir}" in error.action
    assert "new key" not in error.action
    (data_dir / keyfiles.NETWORK_ROOT_FILE).write_bytes(b"")
    assert "no secret" in fault(keyfiles.read_identity, data_dir).action


def test_a_certificate_of_another_device_or_network_is_a_local_fault(data_dir: Path) -> None:
    keyfiles.create_node_keys(data_dir)
    enrol(data_dir, SigningKey(b"o" * 32))
    assert fault(keyfiles.read_identity, data_dir).code == "certificate-other-device"
    keyfiles.replace(data_dir / keyfiles.NETWORK_ROOT_FILE, keyfiles.NETWORK_ROOT_LABEL, NOC_ROOT.public)
    assert fault(keyfiles.read_identity, data_dir).code == "certificate-damaged"


def test_no_secret_appears_in_a_repr_or_in_any_error(data_dir: Path) -> None:
    key = keyfiles.create_node_keys(data_dir)
    enrol(data_dir, key)
    store_key = keyfiles.read_store_key(data_dir)
    device_text = (data_dir / keyfiles.DEVICE_KEY_FILE).read_bytes()
    said = [repr(keyfiles.read_identity(data_dir)), repr(key)]
    breakages = [
        device_text[:-60],
        device_text.replace(b"=", b"?"),
        device_text * 2,
        device_text.replace(b"DEVICE", b"STORE"),
    ]
    for broken in breakages:
        (data_dir / keyfiles.DEVICE_KEY_FILE).write_bytes(broken)
        try:
            keyfiles.read_device_key(data_dir)
        except MeshnodeError as error:
            said.append("".join(traceback.format_exception(error)) + error.action)
    assert len(said) == 2 + len(breakages)
    for secret in (key.seed, store_key):
        for form in (secret.hex(), base64.b64encode(secret).decode()[:20], repr(secret)[2:20]):
            assert not any(form in text for text in said)


# --- armour -----------------------------------------------------------------------------------------------------


@settings(max_examples=100)
@given(st.binary(max_size=500))
def test_armour_gives_back_what_was_put_in(content: bytes) -> None:
    text = armour.encode("DEVICE REQUEST", content)
    assert armour.decode_untrusted(text, "DEVICE REQUEST") == content
    assert armour.decode_untrusted(text.replace(b"\n", b"\r\n"), "DEVICE REQUEST") == content


@settings(max_examples=100)
@given(st.binary(max_size=200))
def test_any_bytes_in_the_place_of_armour_are_refused(data: bytes) -> None:
    with pytest.raises(UntrustedInputError):
        armour.decode_untrusted(data, "DEVICE REQUEST")


def test_armour_names_what_it_found_in_the_place_of_what_was_due() -> None:
    with pytest.raises(UntrustedInputError, match="NOC REQUEST where a DEVICE REQUEST"):
        armour.decode_untrusted(armour.encode("NOC REQUEST", b"x"), "DEVICE REQUEST")


def test_armour_with_a_lost_line_is_damaged() -> None:
    lines = armour.encode("DEVICE REQUEST", bytes(range(200))).split(b"\n")
    with pytest.raises(UntrustedInputError, match="armour-damaged"):
        armour.decode_untrusted(b"\n".join(lines[:2] + lines[3:]), "DEVICE REQUEST")


def test_armour_above_its_limit_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(UntrustedInputError, match="armour-too-large"):
        armour.decode_untrusted(b"A" * (armour.FILE_BYTES_MAX + 1), "DEVICE REQUEST")


# --- passphrases ------------------------------------------------------------------------------------------------


def test_a_passphrase_opens_what_it_sealed_and_another_does_not() -> None:
    sealed = sealed_key.seal(b"s" * 32, b"correct horse", passes=1, memory_bytes=2**16)
    assert sealed_key.open_sealed(sealed, b"correct horse") == b"s" * 32
    with pytest.raises(LocalFaultError, match="passphrase-wrong"):
        sealed_key.open_sealed(sealed, b"correct house")


def test_no_changed_byte_of_a_sealed_key_opens_it() -> None:
    sealed = sealed_key.seal(b"s" * 32, b"correct horse", passes=1, memory_bytes=2**13)
    for at in range(len(sealed)):
        with pytest.raises(LocalFaultError):
            sealed_key.open_sealed(sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :], b"correct horse")


def test_a_sealed_key_that_asks_for_all_memory_is_refused() -> None:
    greedy = sealed_key.codec.encode([1, 1, sealed_key.MEMORY_BYTES_MAX + 1, bytes(16), bytes(24), bytes(48)])
    with pytest.raises(LocalFaultError, match="key-file-damaged"):
        sealed_key.open_sealed(greedy, b"x")
