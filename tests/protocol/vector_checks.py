"""What each kind of vector asks of the code: from the ``input`` of a case to its outcome.

Each check takes the input as it stands in the file and gives the facts that the case expects under ``ok``, or raises
UntrustedInputError, whose code the case expects under ``refusal``. protocol/vectors/README.md lists the kinds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from nacl import bindings
from vector_case import to_json

from meshnode.core import certificates, codec, entry, epochs, geometry, hello, keys, prekeys, wire
from meshnode.core.acts import incident_id
from meshnode.core.causal import CausalGraph
from meshnode.core.crdt import unseen
from meshnode.core.entry import Opening
from meshnode.core.groups import Group
from meshnode.core.holdings import Holdings
from meshnode.core.ids import DeviceId, Dot, EntryHash, IncidentId, KeyId, LogId
from meshnode.core.incident import Author, Document
from meshnode.core.keys import PublicKey, SigningKey
from meshnode.core.log import LogHead
from meshnode.core.operations import Unknown, encode_operation, operation_untrusted
from meshnode.core.prekeys import PrekeySecret
from meshnode.core.roster import Roster
from meshnode.core.views import ObjectView
from meshnode.errors import UntrustedInputError
from meshnode.transport.framing import FrameReader

Facts = dict[str, Any]


def outcome(kind: str, given: Facts) -> Facts:
    """``{"ok": facts}`` or ``{"refusal": code}``."""
    try:
        return {"ok": CHECKS[kind](given)}
    except UntrustedInputError as error:
        return {"refusal": error.code}


def raw(text: str) -> bytes:
    return bytes.fromhex(text)


# --- encoding, hashes, signatures -------------------------------------------------------------------------------


def _cbor(given: Facts) -> Facts:
    value = codec.decode_untrusted(raw(given["bytes"]), given["size_max"])
    assert codec.encode(value).hex() == given["bytes"]
    return {"value": to_json(value)}


def _hash(given: Facts) -> Facts:
    return {"digest": keys.digest(given["tag"], *map(raw, given["parts"])).hex()}


def _derive(given: Facts) -> Facts:
    return {"key": keys.derive_key(given["tag"], raw(given["secret"]), *map(raw, given["context"])).hex()}


def _sign(given: Facts) -> Facts:
    key = SigningKey(raw(given["seed"]))
    return {"public": key.public.hex(), "signature": key.sign(given["tag"], raw(given["message"])).hex()}


def _signature(given: Facts) -> Facts:
    keys.verify_untrusted(
        raw(given["public"]), given["tag"], raw(given["message"]), raw(given["signature"]), "a vector"
    )
    return {}


def _incident_id(given: Facts) -> Facts:
    return {"incident": incident_id(DeviceId(raw(given["author"])), raw(given["nonce"])).hex()}


def _key_id(given: Facts) -> Facts:
    return {"key_id": epochs.key_id(raw(given["epoch_key"])).hex()}


def _fingerprint(given: Facts) -> Facts:
    return {"text": certificates.fingerprint(raw(given["key"]))}


def _frames(given: Facts) -> Facts:
    reader = FrameReader(given["frame_bytes_max"])
    rest, frames = raw(given["stream"]), []
    while rest:
        frame, rest = reader.feed_untrusted(rest)
        if frame is not None:
            frames.append(frame.hex())
    return {"frames": frames, "unfinished_bytes": reader.partial_bytes}


# --- identities -------------------------------------------------------------------------------------------------


def _bundle(given: Facts) -> Facts:
    certificate = certificates.verify_bundle_untrusted(raw(given["bundle"]), PublicKey(raw(given["network"])))
    certificates.check_validity(certificate, given["now_s"])
    return {
        "device": certificate.device.hex(),
        "noc": certificate.noc,
        "name": certificate.name,
        "relay": certificate.relay,
        "not_before_s": certificate.not_before_s,
        "not_after_s": certificate.not_after_s,
    }


def _noc_request(given: Facts) -> Facts:
    request = certificates.read_noc_request_untrusted(raw(given["request"]))
    return {"noc": request.noc, "noc_root": request.noc_root.hex()}


def _device_request(given: Facts) -> Facts:
    request = certificates.read_device_request_untrusted(raw(given["request"]))
    return {"noc": request.noc, "name": request.name, "device": request.device.hex()}


def _hello(given: Facts) -> Facts:
    peer = hello.verify_hello_untrusted(
        raw(given["hello"]),
        PublicKey(raw(given["network"])),
        raw(given["local_tls"]),
        raw(given["remote_tls"]),
        given["dialed"],
        given["now_s"],
        {DeviceId(raw(device)) for device in given["revoked"]},
    )
    return {"device": peer.device.hex(), "noc": peer.noc, "name": peer.name, "relay": peer.relay}


def _prekey(given: Facts) -> Facts:
    prekey = prekeys.prekey_untrusted(raw(given["record"]))
    return {
        "device": prekey.device.hex(),
        "bundle_hash": prekey.bundle_hash.hex(),
        "serial": to_json(prekey.serial),
        "created_ms": prekey.created_ms,
        "x25519": prekey.x25519.hex(),
        "mlkem_sha256": hashlib.sha256(prekey.mlkem).hexdigest(),
    }


def _enrolment(given: Facts) -> Facts:
    roster = Roster(PublicKey(raw(given["network"])))
    for bundle, record in given["pairs"]:
        roster.accept_untrusted(raw(bundle), raw(record))
    held = [one for device, _ in roster.serials() for one in roster.records(device)]
    rows = [[one.prekey.device.hex(), one.certificate.noc, to_json(one.prekey.serial), one.hash.hex()] for one in held]
    return {"rows": rows}


def _prekey_halves(given: Facts) -> Facts:
    x25519, mlkem = prekeys.public_halves(PrekeySecret(0, 0, raw(given["private"])))
    return {"x25519": x25519.hex(), "mlkem_sha256": hashlib.sha256(mlkem).hexdigest()}


# --- epochs -----------------------------------------------------------------------------------------------------


def _box_tag(given: Facts) -> Facts:
    ephemeral = raw(given["ephemeral_private"])
    shared = bindings.crypto_scalarmult(ephemeral, raw(given["recipient_x25519"]))
    incident, key_id = raw(given["incident"]), raw(given["key_id"])
    return {
        "ephemeral_public": bindings.crypto_scalarmult_base(ephemeral).hex(),
        "tag": epochs._tag(shared, IncidentId(incident), KeyId(key_id)).hex(),
    }


def _package(given: Facts) -> Facts:
    opened = epochs.open_package_untrusted(
        raw(given["package"]),
        IncidentId(raw(given["incident"])),
        KeyId(raw(given["key_id"])),
        [PrekeySecret(0, 0, raw(private)) for private in given["privates"]],
    )
    return {"epoch_key": None if opened is None else opened.hex()}


def _epoch_body(given: Facts) -> Facts:
    body = epochs.epoch_body_untrusted(codec.decode_untrusted(raw(given["body"]), entry.CONTENT_BYTES_MAX))
    return {
        "recipients": [[device.hex(), to_json(serial)] for device, serial in body.recipients],
        "parents": [[key_id.hex(), key.hex()] for key_id, key in body.parents],
    }


# --- entries ----------------------------------------------------------------------------------------------------


def _clear(given: Facts) -> bytes:
    package = None if given["package"] is None else raw(given["package"])
    return entry.clear_bytes(
        IncidentId(raw(given["incident"])),
        LogId(raw(given["log"])),
        given["seq"],
        EntryHash(raw(given["previous"])),
        KeyId(raw(given["key_id"])),
        package,
    )


def _keys_of(given: Facts) -> entry.LogKeys:
    return entry.log_keys(raw(given["epoch_key"]), IncidentId(raw(given["incident"])), LogId(raw(given["log"])))


def _log_keys(given: Facts) -> Facts:
    found = _keys_of(given)
    return {"data": found.data.hex(), "nonce": found.nonce.hex()}


def _entry_hash(given: Facts) -> Facts:
    clear, sealed = _clear(given), raw(given["sealed"])
    return {"clear": clear.hex(), "hash": keys.digest("mn-entry", clear, keys.digest("mn-sealed", sealed)).hex()}


def _seal(given: Facts) -> Facts:
    entry.verify_seal_untrusted(LogId(raw(given["log"])), EntryHash(raw(given["hash"])), raw(given["seal"]))
    return {}


def _padding(given: Facts) -> Facts:
    return {"padded": [entry.padded_size(size) for size in given["sizes"]]}


def _sealing(given: Facts) -> Facts:
    return {"sealed": entry.seal_content(raw(given["content"]), _keys_of(given), _clear(given)).hex()}


def _unsealing(given: Facts) -> Facts:
    if epochs.key_id(raw(given["epoch_key"])).hex() != given["key_id"]:
        raise UntrustedInputError("entry-unreadable", "the key is not the one that the entry names")
    return {"content": entry.open_content_untrusted(raw(given["sealed"]), _keys_of(given), _clear(given)).hex()}


def _opening(given: Facts) -> Facts:
    certificate = certificates.verify_bundle_untrusted(raw(given["bundle"]), PublicKey(raw(given["network"])))
    opening = Opening(raw(given["bundle"]), raw(given["signature"]))
    incident, log = IncidentId(raw(given["incident"])), LogId(raw(given["log"]))
    entry.verify_opening_untrusted(opening, certificate.device, incident, log)
    return {"device": certificate.device.hex(), "noc": certificate.noc, "name": certificate.name}


def _content(given: Facts) -> Facts:
    content = entry.content_untrusted(raw(given["content"]))
    opening = content.opening
    return {
        "parents": [parent.hex() for parent in content.parents],
        "time_ms": content.time_ms,
        "operator": content.operator,
        "operations": len(content.operations),
        "acts": len(content.acts),
        "opening": None if opening is None else [opening.bundle.hex(), opening.signature.hex()],
        "epoch": content.epoch is not None,
    }


def _operation(given: Facts) -> Facts:
    operation = operation_untrusted(codec.decode_untrusted(raw(given["operation"]), entry.CONTENT_BYTES_MAX))
    if isinstance(operation, Unknown):
        return {"code": operation.code, "known": False, "items": to_json(list(operation.arguments)), "extra": []}
    code, *items = encode_operation(operation)
    known = len(items) - len(operation.extra)
    return {"code": code, "known": True, "items": to_json(items[:known]), "extra": to_json(items[known:])}


def _geometry(given: Facts) -> Facts:
    value = codec.decode_untrusted(raw(given["geometry"]), entry.CONTENT_BYTES_MAX)
    if not geometry.is_mesh_geometry(value):
        return {"geometry": False}
    return {"geometry": True, "type": geometry.geometry_from_mesh(value)["type"]}


# --- messages and runs ------------------------------------------------------------------------------------------


def _message(given: Facts) -> Facts:
    message = wire.decode_untrusted(raw(given["frame"]))
    fields = [getattr(message, name) for name in type(message).__slots__]
    return {"number": wire._NUMBERS[type(message)], "fields": to_json(fields)}


def _run(given: Facts) -> Facts:
    run = wire.decode_untrusted(raw(given["frame"]))
    assert isinstance(run, wire.Run)
    held = Holdings()
    height, head = given["held"]
    if height:
        held.advance(run.incident, run.log, height, EntryHash(raw(head)))
    taken = held.take_untrusted(run)
    return {"fit": taken.fit.value, "new": [[new.seq, new.hash.hex()] for new in taken.entries]}


def _heads(given: Facts) -> Facts:
    held = Holdings()
    for incident, logs in given["incidents"]:
        for log, height, head in logs:
            held.advance(IncidentId(raw(incident)), LogId(raw(log)), height, EntryHash(raw(head)))
    per_incident = [[incident.hex(), held.incident_digest(incident).hex()] for incident in held.incidents()]
    return {"incidents": per_incident, "holdings": held.digest().hex()}


def _roster(given: Facts) -> Facts:
    rows = [[raw(device), serial, raw(hashed)] for device, serial, hashed in given["rows"]]
    return {"digest": keys.digest("mn-roster", codec.encode(rows)).hex()}


# --- groups, documents, order -----------------------------------------------------------------------------------


def _graph(given: Facts) -> tuple[CausalGraph, list[int]]:
    graph = CausalGraph()
    orders = []
    for row in given["entries"]:
        parents = [(LogId(raw(log)), seq) for log, seq in row["parents"]]
        orders.append(graph.add(LogId(raw(row["log"])), row["seq"], parents, row["time_ms"]))
    return graph, orders


def _order(given: Facts) -> Facts:
    _, orders = _graph(given)
    rows = [(order, row["log"], row["seq"]) for order, row in zip(orders, given["entries"], strict=True)]
    return {"order_times": [str(order) for order in orders], "shown": [[log, seq] for _, log, seq in sorted(rows)]}


def _group(given: Facts) -> Facts:
    group = Group(IncidentId(raw(given["incident"])))
    verdicts = []
    for row in given["entries"]:
        body = None
        if row["epoch"] is not None:
            body = epochs.epoch_body_untrusted(codec.decode_untrusted(raw(row["epoch"]), entry.CONTENT_BYTES_MAX))
        acts = codec.decode_untrusted(raw(row["acts"]), entry.CONTENT_BYTES_MAX)
        parents = [(LogId(raw(log)), seq) for log, seq in row["parents"]]
        position = (LogId(raw(row["log"])), row["seq"])
        judged = group.merge(position, parents, DeviceId(raw(row["author"])), acts, body, KeyId(raw(row["key_id"])))
        verdicts.append([verdict.code for verdict in judged])
    write_key = group.write_key()
    members = [[member.device.hex(), member.noc, member.role.name.lower()] for member in group.members()]
    return {
        "verdicts": verdicts,
        "members": members,
        "write_key": None if write_key is None else write_key.hex(),
        "repair": {device: group.repair_needed(DeviceId(raw(device))) for device, _, _ in members},
        "parent_keys": sorted(key_id.hex() for key_id in group.parent_keys()),
    }


def _document(given: Facts) -> Facts:
    document = Document()
    graph = CausalGraph()
    heads: dict[LogId, LogHead] = {}
    void = []
    for row in given["entries"]:
        log = LogId(raw(row["log"]))
        author = Author(DeviceId(raw(row["device"])), row["noc"], row["name"], row["operator"], row["time_ms"])
        operations = [operation_untrusted(codec.decode_untrusted(raw(op), 65_535)) for op in row["operations"]]
        graph.add(log, row["seq"], [(LogId(raw(parent)), seq) for parent, seq in row["parents"]], row["time_ms"])
        if unseen(graph, (log, row["seq"]), operations):
            void.append([row["log"], row["seq"]])
        else:
            for index, operation in enumerate(operations):
                document.apply(Dot(log, row["seq"], index), operation, author)
        heads[log] = LogHead(log, row["seq"], EntryHash(raw(row["hash"])))
    root = ObjectView("", "incident", document.fields_view(), False, False)
    objects = [root, *(view for name in document.collections() for view in document.collection_view(name))]
    return {
        "facts_sum": document.facts_sum.hex(),
        "state_digest": document.digest(heads.values()).hex(),
        "objects": [_object(view) for view in objects],
        "conflicts": [[view.collection, view.object, view.field] for view in document.conflicts()],
        "log_records": document.log_count,
        "unknown_operations": document.unknown_count,
        "void": void,
    }


def _object(view: ObjectView) -> Facts:
    return {
        "collection": view.collection,
        "id": view.id,
        "deleted": view.deleted,
        "fields": {name: sorted(value.id for value in field.values) for name, field in view.fields.items()},
    }


CHECKS: dict[str, Callable[[Facts], Facts]] = {
    "cbor": _cbor,
    "hash": _hash,
    "derive": _derive,
    "sign": _sign,
    "signature": _signature,
    "incident-id": _incident_id,
    "key-id": _key_id,
    "fingerprint": _fingerprint,
    "frames": _frames,
    "bundle": _bundle,
    "noc-request": _noc_request,
    "device-request": _device_request,
    "hello": _hello,
    "prekey": _prekey,
    "enrolment": _enrolment,
    "prekey-halves": _prekey_halves,
    "box-tag": _box_tag,
    "package": _package,
    "epoch-body": _epoch_body,
    "log-keys": _log_keys,
    "entry-hash": _entry_hash,
    "seal": _seal,
    "padding": _padding,
    "sealing": _sealing,
    "unsealing": _unsealing,
    "opening": _opening,
    "content": _content,
    "operation": _operation,
    "geometry": _geometry,
    "message": _message,
    "run": _run,
    "heads": _heads,
    "roster": _roster,
    "order": _order,
    "group": _group,
    "document": _document,
}
