"""Every route on a real socket: requests in, views out, nothing but durable writes acknowledged."""

from __future__ import annotations

import base64
import json
import os
import socket

import msgpack
import pytest
import trio
from api_rig import INCIDENT, serving
from memory_service import LOG

from meshnode.api.handlers import ROUTES
from meshnode.api.problems import RequestError
from meshnode.api.records import LogQuery, NoQuery
from meshnode.api.routes import Router, parse_query_untrusted, split_target_untrusted
from meshnode.core.events import Attachment
from meshnode.core.ids import IncidentId

ONE = f"/v1/incidents/{INCIDENT}"
UID = os.getuid()


async def test_reads_answer_with_the_views(tmp_path):
    async with serving(tmp_path) as rig:
        client = await rig.connect()
        node = (await client.ask("GET", "/v1/node")).json
        assert node["identity"]["noc"] == "BE"
        assert node["journal"] == 1
        (peer,) = (await client.ask("GET", "/v1/peers")).json
        assert (peer["state"], peer["we_lack"], peer["they_lack"]) == ("cut-off", 3, None)
        (summary,) = (await client.ask("GET", "/v1/incidents")).json
        assert (summary["id"], summary["title"]) == (INCIDENT, "Alert")
        view = (await client.ask("GET", ONE)).json
        assert view["fields"]["title"]["values"][0]["value"] == "Alert"
        assert (await client.ask("GET", f"{ONE}/digest")).json == {
            "incident": INCIDENT,
            "digest": summary["digest"],
            "entries": 1,
            "waiting": 0,
        }
        assert [member["noc"] for member in (await client.ask("GET", f"{ONE}/members")).json] == ["BE"]
        assert (await client.ask("GET", f"{ONE}/conflicts")).json == []


async def test_answers_are_not_cached_and_name_their_type(tmp_path):
    async with serving(tmp_path) as rig:
        response = await (await rig.connect()).ask("GET", "/v1/node")
        assert response.headers["content-type"] == "application/json"
        assert response.headers["cache-control"] == "no-store"
        assert response.headers["x-content-type-options"] == "nosniff"
        assert "date" in response.headers
        assert "connection" not in response.headers


async def test_an_incident_is_opened_with_fields_changes_files_and_members(tmp_path):
    async with serving(tmp_path) as rig:
        client = await rig.connect()
        request = {
            "kind": "cbrn-e",
            "fields": {"title": "Release", "hazards": ["chemical", "nuclear"]},
            "changes": [{"kind": "log", "record": {"text": "first call", "precedence": "flash"}}],
            "attachments": [{"name": "a é.xml", "media_type": "text/xml", "data": base64.b64encode(b"<a/>").decode()}],
            "share_with": ["NL", "DE"],
        }
        response = await client.ask_json("POST", "/v1/incidents", request)
        assert response.status == 201
        written = response.json
        path = response.headers["location"]
        assert path == f"/v1/incidents/{written['incident']}"
        assert len(written["ids"]) == len(written["objects"]) == 3
        view = (await client.ask("GET", path)).json
        assert [value["value"] for value in view["fields"]["hazards"]["values"]] == ["chemical", "nuclear"]
        assert [member["noc"] for member in view["members"]] == ["BE", "NL", "DE"]
        (record,) = (await client.ask("GET", f"{path}/log")).json["items"]
        assert record["record"] == {"text": "first call", "precedence": "flash"}
        assert record["id"] == written["ids"][2]
        (file,) = (await client.ask("GET", f"{path}/attachments")).json
        assert (file["name"], file["size_bytes"]) == ("a é.xml", 4)
        assert written["attachments"] == [file["id"]]
        response = await client.ask("GET", f"{path}/attachments/{file['id']}")
        assert response.body == b"<a/>"
        assert response.headers["content-type"] == "text/xml"
        assert response.headers["content-disposition"] == "attachment; filename*=UTF-8''a%20%C3%A9.xml"
        assert response.headers["content-security-policy"] == "sandbox"


async def test_a_file_from_a_hostile_peer_cannot_write_header_lines(tmp_path):
    async with serving(tmp_path) as rig:
        client = await rig.connect()
        hostile = Attachment('a"\r\nX: y', "text/html\r\nSet-Cookie: a=b", b"x")
        await rig.service.change(IncidentId(bytes(16)), "uid:1", (), (hostile,))
        (file,) = (await client.ask("GET", f"{ONE}/attachments")).json
        response = await client.ask("GET", f"{ONE}/attachments/{file['id']}")
        assert response.headers["content-type"] == "application/octet-stream"
        assert "set-cookie" not in response.headers
        assert "x" not in response.headers


async def test_changes_of_every_kind_are_made_together_and_return_their_ids(tmp_path):
    async with serving(tmp_path) as rig:
        client = await rig.connect()
        known = "ab" * 16
        changes = [
            {"kind": "set", "field": "status", "value": "active"},
            {"kind": "add", "field": "hazards", "value": "chemical"},
            {"kind": "create", "collection": "vehicles", "fields": {"plate": "1-ABC-234", "colour": "red"}},
            {"kind": "create", "collection": "persons", "object": known},
            {"kind": "set", "collection": "persons", "object": known, "field": "name", "value": "N.N."},
            {"kind": "log", "record": {"text": "seen"}},
        ]
        written = (await client.ask_json("POST", f"{ONE}/changes", {"changes": changes})).json
        assert len(written["ids"]) == 6
        assert written["ids"][0] == f"{LOG.hex()}.2.0"
        assert written["objects"][0] == "0" * 32
        assert written["objects"][3] == written["objects"][4] == known
        (vehicle,) = (await client.ask("GET", f"{ONE}/collections/vehicles")).json
        assert vehicle["id"] == written["objects"][2]
        assert vehicle["fields"]["plate"]["values"][0]["value"] == "1-ABC-234"
        person = (await client.ask("GET", f"{ONE}/collections/persons/{known}")).json
        assert person["fields"]["name"]["values"][0]["id"] == written["ids"][4]
        removal = [
            {"kind": "remove", "field": "hazards", "value": "chemical"},
            {"kind": "delete", "collection": "persons", "object": known},
        ]
        await client.ask_json("POST", f"{ONE}/changes", {"changes": removal})
        assert (await client.ask("GET", f"{ONE}/collections/persons")).json == []
        assert (await client.ask("GET", f"{ONE}/collections/persons/{known}")).json["deleted"] is True


async def test_a_conflict_shows_both_values_until_one_write_names_both(tmp_path):
    async with serving(tmp_path) as rig:
        client = await rig.connect()
        rig.service.plant_conflict(IncidentId(bytes(16)), "title", "Alerte")
        (conflict,) = (await client.ask("GET", f"{ONE}/conflicts")).json
        assert [value["value"] for value in conflict["values"]] == ["Alert", "Alerte"]
        ids = [value["id"] for value in conflict["values"]]
        change = {"kind": "set", "field": "title", "value": "Alert / Alerte", "replaces": ids}
        assert (await client.ask_json("POST", f"{ONE}/changes", {"changes": [change]})).status == 200
        assert (await client.ask("GET", f"{ONE}/conflicts")).json == []


async def test_the_log_book_and_the_history_come_in_pages(tmp_path):
    async with serving(tmp_path) as rig:
        client = await rig.connect()
        for number in range(5):
            written = await client.ask_json("POST", f"{ONE}/log", {"text": f"line {number}", "marking": "TLP:GREEN"})
            assert len(written.json["ids"]) == 1
        seen, after = [], ""
        while True:
            page = (await client.ask("GET", f"{ONE}/log?limit=2&after={after}")).json
            seen += [item["record"]["text"] for item in page["items"]]
            after = page["next"]
            if not after:
                break
        assert seen == [f"line {number}" for number in range(5)]
        newest = (await client.ask("GET", f"{ONE}/log?order=newest&limit=1")).json
        assert newest["items"][0]["record"]["text"] == "line 4"
        history = (await client.ask("GET", f"{ONE}/history?limit=3")).json
        assert [item["journal"] for item in history["items"]] == [1, 2, 3]
        touched = (await client.ask("GET", f"{ONE}/history?object={'0' * 32}")).json
        assert len(touched["items"]) == 6


async def test_members_are_added_by_noc(tmp_path):
    async with serving(tmp_path) as rig:
        client = await rig.connect()
        assert (await client.ask_json("POST", f"{ONE}/members", {"nocs": ["NL"]})).status == 200
        assert len((await client.ask("GET", f"{ONE}/members")).json) == 2
        response = await client.ask_json("POST", f"{ONE}/members", {"nocs": ["XX"]})
        assert (response.status, response.code) == (409, "noc-unknown")


async def test_the_author_of_a_change_is_the_operator_with_the_user_id(tmp_path):
    async with serving(tmp_path) as rig:
        client = await rig.connect()
        await client.ask_json("POST", f"{ONE}/log", {"text": "a"})
        await client.ask_json("POST", f"{ONE}/log", {"text": "b"}, "Meshnode-Operator: Zoë\r\n")
        records = (await client.ask("GET", f"{ONE}/log")).json["items"]
        assert [record["author"]["operator"] for record in records] == [f"uid:{UID}", f"Zoë (uid {UID})"]
        refused = await client.ask_json("POST", f"{ONE}/log", {"text": "c"}, "Meshnode-Operator: root (uid 0)\r\n")
        assert (refused.status, refused.code) == (400, "bad-operator")


async def test_a_change_is_answered_only_when_it_is_durable(tmp_path):
    async with serving(tmp_path) as rig:
        rig.service.gate = trio.Event()
        client, other = await rig.connect(), await rig.connect()
        body = b'{"text": "a"}'
        await client.send(
            f"POST {ONE}/log HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n".encode()
            + b"Content-Length: %d\r\n\r\n" % len(body)
            + body
        )
        while not rig.service.changes_waiting:
            await trio.lowlevel.checkpoint()
        # Reads go on meanwhile, and nothing has been said to the writer.
        assert (await other.ask("GET", f"{ONE}/log")).json["items"] == []
        with pytest.raises(trio.WouldBlock):
            _peek(client)
        rig.service.gate.set()
        assert (await client.response()).status == 200


def _peek(client):
    sock = client.stream.socket
    try:
        sock._sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        raise trio.WouldBlock from None


async def test_refusals_of_the_node_are_problems_with_code_reason_and_action(tmp_path):
    async with serving(tmp_path) as rig:
        client = await rig.connect()
        response = await client.ask("GET", f"/v1/incidents/{'f' * 32}")
        assert (response.status, response.code) == (404, "unknown-incident")
        assert response.json["action"] == "list the incidents"
        response = await client.ask("GET", f"{ONE}/collections/persons/{'1' * 32}")
        assert (response.status, response.code) == (404, "unknown-object")
        rig.service.disk_is_full = True
        response = await client.ask_json("POST", f"{ONE}/log", {"text": "a"})
        assert (response.status, response.code) == (507, "store-full")
        assert (await client.ask("GET", ONE)).status == 200
        assert rig.refusals["store-full"] == 1


@pytest.mark.filterwarnings("default")
async def test_a_defect_in_the_node_costs_one_connection_and_says_so(tmp_path, caplog):
    async with serving(tmp_path) as rig:
        client, other = await rig.connect(), await rig.connect()
        rig.service.defect = ZeroDivisionError("with a secret in it")
        response = await client.ask_json("POST", f"{ONE}/log", {"text": "a"})
        assert (response.status, response.code) == (500, "internal-error")
        assert "secret" not in response.body.decode()
        assert await client.is_closed()
        assert (await other.ask("GET", "/v1/node")).status == 200
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code", "where"),
    [
        ("GET", "/v1/incidents/XYZ", None, 400, "bad-identifier", None),
        ("GET", f"/v1/incidents/{'F' * 32}", None, 400, "bad-identifier", None),
        ("GET", f"{ONE}/log?limit=0", None, 400, "bad-query", "limit"),
        ("GET", f"{ONE}/log?limit=1001", None, 400, "bad-query", "limit"),
        ("GET", f"{ONE}/log?limit=ten", None, 400, "bad-query", "limit"),
        ("GET", f"{ONE}/log?order=upwards", None, 400, "bad-query", "order"),
        ("GET", f"{ONE}/log?limit=1&limit=2", None, 400, "bad-query", None),
        ("GET", f"{ONE}/log?limits=1", None, 400, "bad-query", None),
        ("GET", f"{ONE}/log?%FF=1", None, 400, "bad-query", None),
        ("GET", f"{ONE}/log?" + "&".join(f"a{n}=1" for n in range(99)), None, 400, "bad-query", None),
        ("GET", f"{ONE}/history?object=1", None, 400, "bad-query", "object"),
        ("GET", "/v1/node", b"{}", 400, "unexpected-body", None),
        ("POST", "/v1/incidents", b"", 400, "malformed-body", None),
        ("POST", "/v1/incidents", b"{}", 422, "invalid-value", "$"),
        ("POST", "/v1/incidents", b'{"kind": "other", "fields": {"kind": "x"}}', 422, "invalid-value", "$.fields.kind"),
        ("POST", "/v1/incidents", b'{"kind": "other", "fields": {"a": 1e999}}', 422, "invalid-value", "$.fields.a"),
        ("POST", "/v1/incidents", b'{"kind": "other", "fields": {"hazards": 5}}', 422, "invalid-value",
         "$.fields.hazards"),
        ("POST", f"{ONE}/changes", b"{}", 422, "invalid-value", "$"),
        ("POST", f"{ONE}/changes", b'{"changes": [{"kind": "remove", "field": "a"}]}', 422, "invalid-value",
         "$.changes[0]"),
        ("POST", f"{ONE}/changes", b'{"changes": [{"kind": "set", "field": "a", "value": 18446744073709551616}]}',
         422, "invalid-value", "$.changes[0].value"),
        ("POST", f"{ONE}/changes", b'{"changes": [{"kind": "set", "collection": "x", "field": "a", "value": 1}]}',
         422, "invalid-value", "$.changes[0].object"),
        ("POST", f"{ONE}/changes",
         b'{"changes": [{"kind": "set", "field": "a", "value": 1}, {"kind": "set", "field": "a", "value": 2}]}',
         422, "invalid-value", "$.changes[1]"),
        ("POST", f"{ONE}/changes", b'{"changes": [{"kind": "set", "field": "a", "value": 1, "replaces": ["x"]}]}',
         400, "bad-identifier", None),
        ("POST", f"{ONE}/members", b'{"nocs": []}', 422, "invalid-value", "$.nocs"),
        ("POST", f"{ONE}/log", b'{"text": ""}', 422, "invalid-value", "$.text"),
    ],
)  # fmt: skip
async def test_bad_requests_are_refused_by_code_and_place_and_change_nothing(
    tmp_path, method, path, body, status, code, where
):
    async with serving(tmp_path) as rig:
        client = await rig.connect()
        response = await client.ask(method, path, body)
        assert (response.status, response.code) == (status, code)
        assert response.json.get("path") == where
        assert len(rig.service.journal) == 1
        assert (await client.ask("GET", "/v1/node")).status == 200


async def test_at_most_256_changes_go_together_counting_the_fields_of_new_objects(tmp_path):
    async with serving(tmp_path) as rig:
        client = await rig.connect()
        log = {"kind": "log", "record": {"text": "a"}}
        assert (await client.ask_json("POST", f"{ONE}/changes", {"changes": [log] * 256})).status == 200
        response = await client.ask_json("POST", f"{ONE}/changes", {"changes": [log] * 257})
        assert (response.status, response.json["path"]) == (422, "$.changes")
        create = {"kind": "create", "collection": "x-notes", "fields": {"x-a": 1, "x-b": 2}}
        response = await client.ask_json("POST", f"{ONE}/changes", {"changes": [create] * 86})
        assert (response.status, response.json["path"]) == (422, "$.changes")


async def test_messagepack_in_and_out_says_the_same_as_json(tmp_path):
    async with serving(tmp_path) as rig:
        client = await rig.connect()
        body = msgpack.packb({"changes": [{"kind": "set", "field": "area", "value": {"coordinates": [4.35, 50.85]}}]})
        accept = "Accept: application/msgpack\r\n"
        response = await client.ask("POST", f"{ONE}/changes", body, accept, "application/msgpack")
        assert response.headers["content-type"] == "application/msgpack"
        assert len(msgpack.unpackb(response.body)["ids"]) == 1
        packed = await client.ask("GET", ONE, headers=accept)
        plain = await client.ask("GET", ONE)
        assert msgpack.unpackb(packed.body) == plain.json
        problem = await client.ask("GET", "/v1/nothing", headers=accept)
        assert problem.headers["content-type"] == "application/problem+msgpack"
        assert msgpack.unpackb(problem.body)["code"] == "unknown-path"


async def test_what_cannot_be_negotiated_is_refused(tmp_path):
    async with serving(tmp_path) as rig:
        client = await rig.connect()
        response = await client.ask("GET", "/v1/node", headers="Accept: text/html\r\n")
        assert (response.status, response.code) == (406, "not-acceptable")
        response = await client.ask("POST", f"{ONE}/log", b"text=a", media="application/x-www-form-urlencoded")
        assert (response.status, response.code) == (415, "unsupported-media-type")


async def test_unknown_paths_and_wrong_methods_are_told_apart(tmp_path):
    async with serving(tmp_path) as rig:
        client = await rig.connect()
        for path in ("/", "/v1", "/v2/node", "/v1/node/", "/v1//node", "//v1/node", f"{ONE}/collections//", "/%2e%2e"):
            response = await client.ask("GET", path)
            assert (response.status, response.code) == (404, "unknown-path"), path
        response = await client.ask("DELETE", ONE)
        assert (response.status, response.code) == (405, "method-not-allowed")
        assert response.headers["allow"] == "GET, HEAD"
        response = await client.ask("OPTIONS", "/v1/incidents")
        assert response.headers["allow"] == "GET, HEAD, POST"


async def test_head_answers_like_get_without_the_body(tmp_path):
    async with serving(tmp_path) as rig:
        client = await rig.connect()
        whole = await client.ask("GET", ONE)
        head = await client.ask("HEAD", ONE)
        assert head.status == 200
        assert head.headers["content-length"] == str(len(whole.body))
        assert (await client.ask("HEAD", "/v1/events")).headers["content-type"] == "text/event-stream"
        assert (await client.ask("HEAD", "/v1/nothing")).status == 404
        assert (await client.ask("GET", "/v1/node")).status == 200


async def test_the_read_socket_answers_reads_and_refuses_every_change(tmp_path):
    async with serving(tmp_path) as rig:
        client = await rig.connect_read()
        assert (await client.ask("GET", ONE)).status == 200
        for route in ROUTES:
            if route.method != "GET":
                path = route.path.replace("{incident}", INCIDENT)
                response = await client.ask(route.method, path, b"{}")
                assert (response.status, response.code) == (403, "read-only-socket")
        assert len(rig.service.journal) == 1


async def test_the_openapi_document_is_served(tmp_path):
    async with serving(tmp_path) as rig:
        response = await (await rig.connect_read()).ask("GET", "/v1/openapi.json")
        assert json.loads(response.body)["openapi"] == "3.1.0"


def test_a_target_may_be_in_absolute_form_and_segments_may_be_escaped():
    assert split_target_untrusted(b"http://localhost/v1/node?a=b") == ("/v1/node", "a=b")
    route, params = Router(ROUTES).find_untrusted("GET", f"{ONE}/collections/x%2Dn%C3%A9")
    assert route.name == "collection"
    assert params == {"incident": INCIDENT, "collection": "x-né"}
    for bad in (b"*", b"a:1", b"http://"):
        with pytest.raises(RequestError):
            Router(ROUTES).find_untrusted("GET", split_target_untrusted(bad)[0])
    with pytest.raises(RequestError):
        Router(ROUTES).find_untrusted("GET", f"{ONE}/collections/%ff")


def test_page_limits_have_a_default_and_an_upper_bound():
    assert parse_query_untrusted("", LogQuery).limit == 100
    assert parse_query_untrusted("limit=1000", LogQuery).limit == 1000
    assert parse_query_untrusted("", NoQuery) == NoQuery()
