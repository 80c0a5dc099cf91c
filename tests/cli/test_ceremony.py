"""From two empty directories to an enrolled node, and each wrong hand-over on the way."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from cli_support import Meshnode

from meshnode import enrolment
from meshnode.storage import sealed_key


@pytest.fixture
def ceremony(tmp_path: Path, meshnode: Meshnode) -> Path:
    """A network, the certified NOC authorities BE and NL, and a node of BE that is not enrolled."""
    assert meshnode("authority", "init", "--network", "Exercise", "--out", tmp_path / "net").code == 0
    for noc in ("BE", "NL"):
        home, certificate = tmp_path / noc, tmp_path / f"{noc}.cert"
        assert meshnode("authority", "init", "--noc", noc, "--out", home).code == 0
        request = home / "noc.request"
        assert (
            meshnode("authority", "certify", "--authority", tmp_path / "net", request, "--out", certificate).code == 0
        )
        assert meshnode("authority", "accept", "--authority", home, certificate).code == 0
    assert meshnode("init", "--data", tmp_path / "be-1", "--noc", "BE", "--name", "be-1").code == 0
    return tmp_path


def certify(meshnode: Meshnode, at: Path, noc: str = "BE", node: str = "be-1", *more: str) -> None:
    out = at / f"{node}.cert"
    said = meshnode("authority", "certify", "--authority", at / noc, at / node / "device.request", "--out", out, *more)
    assert said.code == 0, said.err


def test_a_node_is_enrolled_by_carrying_two_files(ceremony: Path, meshnode: Meshnode) -> None:
    certify(meshnode, ceremony)
    said = meshnode("enrol", "--data", ceremony / "be-1", ceremony / "be-1.cert", "--json")
    assert said.code == 0
    shown = meshnode("identity", "show", "--data", ceremony / "be-1", "--json").json
    assert shown == said.json
    network = meshnode("authority", "show", "--authority", ceremony / "net", "--json").json
    assert shown["enrolled"] is shown["valid"] is True
    assert (shown["noc"], shown["name"], shown["relay"]) == ("BE", "be-1", False)
    assert shown["network_fingerprint"] == network["fingerprint"]


def test_every_step_tells_a_person_what_comes_next(tmp_path: Path, meshnode: Meshnode) -> None:
    node, be, net = tmp_path / "n", tmp_path / "BE", tmp_path / "net"
    assert "next: give" in meshnode("init", "--data", node, "--noc", "BE", "--name", "be-1").out
    assert "meshnode enrol" in meshnode("identity", "show", "--data", node).out
    assert "offline" in meshnode("authority", "init", "--network", "Exercise", "--out", net).out
    assert "noc.request" in meshnode("authority", "init", "--noc", "BE", "--out", be).out
    meshnode("authority", "certify", "--authority", net, be / "noc.request", "--out", tmp_path / "be.cert")
    assert "by voice" in meshnode("authority", "accept", "--authority", be, tmp_path / "be.cert").out
    request, out = node / "device.request", tmp_path / "c"
    assert "by voice" in meshnode("authority", "certify", "--authority", be, request, "--out", out).out
    assert "BE/be-1" in meshnode("authority", "show", "--authority", be).out
    said = meshnode("enrol", "--data", node, out)
    assert "network fingerprint" in said.out
    assert "meshnode run" in said.out


def test_the_fingerprint_is_the_same_at_both_ends_of_each_hand_over(ceremony: Path, meshnode: Meshnode) -> None:
    node = meshnode("identity", "show", "--data", ceremony / "be-1", "--json").json["fingerprint"]
    request, out = ceremony / "be-1" / "device.request", ceremony / "c"
    said = meshnode("authority", "certify", "--authority", ceremony / "BE", request, "--out", out)
    assert f"fingerprint  {node}" in said.out


def test_a_noc_authority_refuses_the_device_of_another_noc(ceremony: Path, meshnode: Meshnode) -> None:
    request, out = ceremony / "be-1" / "device.request", ceremony / "c"
    said = meshnode("authority", "certify", "--authority", ceremony / "NL", request, "--out", out, "--json")
    assert (said.code, said.error["code"]) == (1, "wrong-noc")
    assert not out.exists()
    assert meshnode("authority", "show", "--authority", ceremony / "NL", "--json").json["issued"] == []


def test_a_certificate_of_another_device_is_refused_and_nothing_is_written(ceremony: Path, meshnode: Meshnode) -> None:
    meshnode("init", "--data", ceremony / "be-2", "--noc", "BE", "--name", "be-2")
    certify(meshnode, ceremony, "BE", "be-2")
    said = meshnode("enrol", "--data", ceremony / "be-1", ceremony / "be-2.cert")
    assert said.code == 5
    assert said.err.startswith("error: certificate-other-device: ")
    assert "\n  what to do: " in said.err
    assert sorted(path.name for path in (ceremony / "be-1").iterdir()) == ["device.key", "device.request", "store.key"]


def test_a_certificate_that_ended_is_refused(
    ceremony: Path, meshnode: Meshnode, monkeypatch: pytest.MonkeyPatch
) -> None:
    certify(meshnode, ceremony, "BE", "be-1", "--days", "1")
    later = time.time() + 3 * 86_400
    monkeypatch.setattr(time, "time", lambda: later)
    said = meshnode("enrol", "--data", ceremony / "be-1", ceremony / "be-1.cert", "--json")
    assert (said.code, said.error["code"]) == (5, "certificate-expired")


def test_a_node_stays_in_the_network_it_was_enrolled_in(ceremony: Path, meshnode: Meshnode) -> None:
    certify(meshnode, ceremony)
    other = ceremony / "other"
    meshnode("authority", "init", "--network", "Other", "--out", other)
    anchor = ("--network-root", other / "network.root")
    said = meshnode("enrol", "--data", ceremony / "be-1", ceremony / "be-1.cert", *anchor, "--json")
    assert (said.code, said.error["code"]) == (5, "certificate-foreign-network")
    assert not (ceremony / "be-1" / "network.root").exists()
    meshnode("enrol", "--data", ceremony / "be-1", ceremony / "be-1.cert")
    said = meshnode("enrol", "--data", ceremony / "be-1", ceremony / "be-1.cert", *anchor, "--json")
    assert (said.code, said.error["code"]) == (1, "certificate-foreign-network")


def test_a_device_is_certified_again_with_its_key_and_with_a_new_key_only_on_demand(
    ceremony: Path, meshnode: Meshnode
) -> None:
    certify(meshnode, ceremony)
    (ceremony / "be-1.cert").unlink()
    certify(meshnode, ceremony)
    meshnode("init", "--data", ceremony / "impostor", "--noc", "BE", "--name", "be-1")
    command = ["authority", "certify", "--authority", ceremony / "BE", ceremony / "impostor" / "device.request"]
    said = meshnode(*command, "--out", ceremony / "i.cert", "--json")
    assert (said.code, said.error["code"]) == (1, "already-certified")
    assert meshnode(*command, "--out", ceremony / "i.cert", "--replace").code == 0
    issued = meshnode("authority", "show", "--authority", ceremony / "BE", "--json").json["issued"]
    assert [item["subject"] for item in issued] == ["BE/be-1"] * 3
    assert issued[0]["key"] == issued[1]["key"] != issued[2]["key"]


def test_the_network_root_certifies_one_key_for_each_noc(ceremony: Path, meshnode: Meshnode) -> None:
    meshnode("authority", "init", "--noc", "BE", "--out", ceremony / "impostor")
    request = ceremony / "impostor" / "noc.request"
    command = ["authority", "certify", "--authority", ceremony / "net", request, "--out", ceremony / "i.cert"]
    assert meshnode(*command, "--json").error["code"] == "already-certified"


def test_a_noc_authority_without_its_certificate_certifies_nobody(tmp_path: Path, meshnode: Meshnode) -> None:
    meshnode("authority", "init", "--noc", "BE", "--out", tmp_path / "BE")
    meshnode("init", "--data", tmp_path / "n", "--noc", "BE", "--name", "n")
    request = tmp_path / "n" / "device.request"
    said = meshnode("authority", "certify", "--authority", tmp_path / "BE", request, "--out", tmp_path / "c", "--json")
    assert (said.code, said.error["code"]) == (1, "authority-not-certified")


def test_an_authority_accepts_only_the_certificate_of_its_own_key(ceremony: Path, meshnode: Meshnode) -> None:
    said = meshnode("authority", "accept", "--authority", ceremony / "NL", ceremony / "BE.cert", "--json")
    assert (said.code, said.error["code"]) == (5, "certificate-other-root")
    said = meshnode("authority", "accept", "--authority", ceremony / "net", ceremony / "BE.cert", "--json")
    assert (said.code, said.error["code"]) == (1, "wrong-authority")


def test_a_file_handed_in_at_the_wrong_place_is_named(ceremony: Path, meshnode: Meshnode) -> None:
    said = meshnode("enrol", "--data", ceremony / "be-1", ceremony / "BE.cert")
    assert said.code == 5
    assert "NOC CERTIFICATE where a DEVICE CERTIFICATE is expected" in said.err
    said = meshnode("enrol", "--data", ceremony / "be-1", ceremony / "no-such-file")
    assert said.code == 4


def test_a_hub_is_certified_as_a_relay_and_a_noc_is_not(ceremony: Path, meshnode: Meshnode) -> None:
    certify(meshnode, ceremony, "BE", "be-1", "--relay")
    meshnode("enrol", "--data", ceremony / "be-1", ceremony / "be-1.cert")
    assert meshnode("identity", "show", "--data", ceremony / "be-1", "--json").json["relay"] is True
    request = ceremony / "BE" / "noc.request"
    command = ["authority", "certify", "--authority", ceremony / "net", request, "--out", ceremony / "r", "--relay"]
    assert meshnode(*command, "--json").error["code"] == "relay-not-for-nocs"


def test_a_root_key_under_a_passphrase_needs_it_each_time(
    tmp_path: Path, meshnode: Meshnode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealed_key.seal, "__defaults__", (1, 2**16))
    phrase, wrong = tmp_path / "phrase", tmp_path / "wrong"
    phrase.write_text("correct horse\n")
    wrong.write_text("correct house\n")
    net, out = tmp_path / "net", tmp_path / "c"
    meshnode("authority", "init", "--network", "Exercise", "--out", net, "--passphrase-file", phrase)
    meshnode("authority", "init", "--noc", "BE", "--out", tmp_path / "BE")
    command = ["authority", "certify", "--authority", net, tmp_path / "BE" / "noc.request", "--out", out, "--json"]
    assert meshnode(*command).error["code"] == "passphrase-needed"
    assert meshnode(*command, "--passphrase-file", wrong).error["code"] == "passphrase-wrong"
    assert not out.exists()
    assert meshnode(*command, "--passphrase-file", "-", stdin="correct horse\n").code == 0
    assert b"correct" not in b"".join(path.read_bytes() for path in net.iterdir())


def test_an_empty_passphrase_is_refused(tmp_path: Path, meshnode: Meshnode) -> None:
    command = ["authority", "init", "--network", "N", "--out", tmp_path / "n", "--passphrase-file", "-", "--json"]
    assert meshnode(*command, stdin="\n").error["code"] == "passphrase-unusable"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["init", "--noc", "be", "--name", "be-1"], "bad-name"),
        (["init", "--noc", "BE", "--name", "BE 1"], "bad-name"),
        (["init", "--noc", "BE", "--name", "x" * 64], "bad-name"),
    ],
)
def test_a_bad_name_is_refused_before_a_key_is_made(
    tmp_path: Path, meshnode: Meshnode, arguments: list[str], code: str
) -> None:
    said = meshnode(*arguments, "--data", tmp_path / "n", "--json")
    assert (said.code, said.error["code"]) == (1, code)
    assert not (tmp_path / "n").exists()


def test_damaged_authority_files_are_local_faults(ceremony: Path, meshnode: Meshnode) -> None:
    certify(meshnode, ceremony)
    (ceremony / "BE" / "issued.jsonl").write_text('{"subject": 1')
    assert meshnode("authority", "show", "--authority", ceremony / "BE", "--json").error["code"] == "authority-damaged"
    about = ceremony / "BE" / "authority.json"
    about.write_text(json.dumps(json.loads(about.read_text()) | {"root": "zz"}))
    assert meshnode("authority", "show", "--authority", ceremony / "BE", "--json").error["code"] == "authority-missing"


def test_an_exposed_root_key_signs_nothing(ceremony: Path, meshnode: Meshnode) -> None:
    (ceremony / "BE" / "root.key").chmod(0o644)
    request, out = ceremony / "be-1" / "device.request", ceremony / "c"
    said = meshnode("authority", "certify", "--authority", ceremony / "BE", request, "--out", out, "--json")
    assert (said.code, said.error["code"]) == (4, "key-file-exposed")
    assert not out.exists()


def test_a_crash_between_the_anchor_and_the_certificate_leaves_a_node_that_can_enrol_again(
    ceremony: Path, meshnode: Meshnode
) -> None:
    certify(meshnode, ceremony)
    enrolment.enrol(ceremony / "be-1", ceremony / "be-1.cert", None, time.time())
    (ceremony / "be-1" / "certificate").unlink()
    assert meshnode("identity", "show", "--data", ceremony / "be-1", "--json").json["enrolled"] is False
    assert meshnode("enrol", "--data", ceremony / "be-1", ceremony / "be-1.cert").code == 0


def test_no_command_prints_a_secret(ceremony: Path, meshnode: Meshnode) -> None:
    certify(meshnode, ceremony)
    secrets = [
        (ceremony / name).read_text().split("\n")[1][:24]
        for name in ("be-1/device.key", "be-1/store.key", "BE/root.key")
    ]
    said = [
        meshnode("enrol", "--data", ceremony / "be-1", ceremony / "be-1.cert"),
        meshnode("identity", "show", "--data", ceremony / "be-1", "--json"),
        meshnode("authority", "show", "--authority", ceremony / "BE", "--json"),
        meshnode("enrol", "--data", ceremony / "be-1", ceremony / "be-1" / "device.key"),
        meshnode("init", "--data", ceremony / "be-1", "--noc", "BE", "--name", "be-1"),
    ]
    for secret in secrets:
        assert not any(secret in text for one in said for text in (one.out, one.err))
