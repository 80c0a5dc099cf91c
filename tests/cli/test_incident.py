"""Reading and changing incidents from the command line, against a real API server on a real socket."""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cli_support import Meshnode, Said

from meshnode.cli import connection
from meshnode.client import ApiError, Client
from meshnode.core.ids import IncidentId, ObjectId
from meshnode.core.views import DegradedView

if TYPE_CHECKING:
    from conftest import Daemon

SHORT_ALERT = (
    '<alert xmlns="urn:oasis:names:tc:emergency:cap:1.2"><identifier>SHORT-1</identifier>'
    "<sender>noc.be.example</sender><sent>2026-03-01T14:05:00+01:00</sent><status>Actual</status>"
    "<msgType>Alert</msgType><scope>Public</scope></alert>"
)
CAP_FILES = Path(__file__).parents[1] / "data" / "cap" / "valid"


@pytest.fixture
def incident(daemon: Daemon, meshnode: Meshnode) -> str:
    said = meshnode("incident", "open", "--kind", "man-hunt", "--title", "Two suspects", "--json")
    assert said.code == 0, said.err
    found: str = said.json["incident"]
    return found


def fields(meshnode: Meshnode, incident: str, *more: str) -> dict[str, list[object]]:
    shown = meshnode("incident", "show", incident, *more, "--json").json["fields"]
    return {name: [value["value"] for value in field["values"]] for name, field in shown.items()}


def done(said: Said) -> Said:
    assert said.code == 0, said.err
    return said


def test_an_incident_is_opened_by_hand_with_first_values_and_members(daemon: Daemon, meshnode: Meshnode) -> None:
    command = ["incident", "open", "--kind", "cbrn-e", "--title", "112", "--share", "NL,DE", "--share", "FR"]
    said = done(meshnode(*command, "--field", "injured_persons=112", "--field", "hazards+=chemical", "--json"))
    assert fields(meshnode, said.json["incident"]) == {
        "title": ["112"],
        "status": ["open"],
        "injured_persons": [112],
        "hazards": ["chemical"],
    }
    members = meshnode("incident", "members", said.json["incident"], "--json").json
    assert [member["noc"] for member in members] == ["BE", "NL", "DE", "FR"]


def test_a_relay_is_made_a_reader_only_on_demand(daemon: Daemon, incident: str, meshnode: Meshnode) -> None:
    said = meshnode("incident", "share", incident, "EU", "--json")
    assert (said.code, said.error["code"]) == (1, "relays-only")
    by_hand = ("incident", "open", "--kind", "other", "--title", "T", "--share", "EU")
    assert meshnode(*by_hand, "--json").error["code"] == "relays-only"
    done(meshnode("incident", "share", incident, "EU", "--with-relays"))
    done(meshnode(*by_hand, "--with-relays"))
    members = meshnode("incident", "members", incident, "--json").json
    assert [member["noc"] for member in members] == ["BE", "EU"]


def test_an_edit_that_brings_back_what_was_deleted_says_so(daemon: Daemon, incident: str, meshnode: Meshnode) -> None:
    place = done(meshnode("incident", "add", incident, "persons", "role=suspect")).out.split()[1]
    for command in (("set", incident, "role", "witness"), ("add-to", incident, "aliases", "Joe")):
        done(meshnode("incident", "delete", incident, place))
        said = done(meshnode("incident", *command, "--object", place))
        assert f"note: persons/{place.partition('/')[2][:8]} was deleted; this change brings it back" in said.err
        assert "meshnode incident delete" in said.err
    assert "edited after it was deleted" in done(meshnode("incident", "show", incident)).out
    assert done(meshnode("incident", "set", incident, "role", "other", "--object", place)).err == ""


def test_one_value_for_a_set_is_answered_with_how_to_write_it(incident: str, meshnode: Meshnode) -> None:
    said = meshnode("incident", "add", incident, "persons", "aliases=Joe", "--json")
    assert (said.code, said.error["code"]) == (1, "invalid-value")
    assert "aliases+=VALUE" in said.error["action"]


def test_an_alert_that_is_attached_is_known_by_its_content(incident: str, meshnode: Meshnode, tmp_path: Path) -> None:
    capture = tmp_path / "traffic.cap"
    capture.write_bytes(b"\xd4\xc3\xb2\xa1" + bytes(20))
    alert = sorted(CAP_FILES.glob("*.cap"))[0]
    renamed = tmp_path / "alert.xml"
    renamed.write_bytes(alert.read_bytes())
    kinds = [done(meshnode("incident", "attach", incident, file)).out.split()[-1] for file in (alert, renamed, capture)]
    assert kinds[:2] == ["application/cap+xml"] * 2
    assert kinds[2] != kinds[0]


def test_an_incident_is_opened_from_a_cap_alert_and_keeps_the_file_as_it_came(
    daemon: Daemon, meshnode: Meshnode, tmp_path: Path
) -> None:
    alert = sorted(CAP_FILES.glob("*.cap"))[0]
    said = done(meshnode("incident", "open", "--cap", alert, "--title", "Ours", "--json"))
    incident = said.json["incident"]
    assert fields(meshnode, incident)["title"] == ["Ours"]
    kept = meshnode("incident", "attachments", incident, "--json").json
    assert [item["id"] for item in kept] == said.json["attachments"]
    assert [item["size_bytes"] for item in kept] == [alert.stat().st_size]
    out = tmp_path / "out.cap"
    done(meshnode("incident", "attachment", incident[:30], kept[0]["id"][:6], "--out", out))
    assert out.read_bytes() == alert.read_bytes()
    again = meshnode("incident", "attachment", incident, kept[0]["id"], "--out", out, "--json")
    assert (again.code, again.error["code"]) == (4, "file-not-written")
    opened, attached = done(meshnode("incident", "open", "--cap", alert)).out.splitlines()
    (second,) = meshnode("incident", "attachments", opened.split()[1], "--json").json
    assert attached.split()[1].startswith(f"attachments/{second['id'][:6]}")
    assert attached.endswith(f" {alert.name}")


def test_an_alert_that_was_opened_before_or_refers_to_one_names_that_incident(
    daemon: Daemon, meshnode: Meshnode, tmp_path: Path
) -> None:
    first = tmp_path / "first.cap"
    first.write_text(SHORT_ALERT)
    opened = done(meshnode("incident", "open", "--cap", first, "--json")).json
    assert not any("opened before" in note for note in opened["notes"])
    said = done(meshnode("incident", "open", "--cap", first))
    assert f"note: this alert was opened before: incident {opened['incident'][:8]} (" in said.err
    cancel = tmp_path / "cancel.cap"
    reference = "<references>noc.be.example,SHORT-1,2026-03-01T14:05:00+01:00</references>"
    text = SHORT_ALERT.replace("SHORT-1", "SHORT-2").replace(">Alert<", ">Cancel<")
    cancel.write_text(text.replace("</scope>", f"</scope>{reference}"))
    said = done(meshnode("incident", "open", "--cap", cancel))
    assert f"refers to a message that was opened before: incident {opened['incident'][:8]}" in said.err
    assert "the message type is Cancel: it takes back an earlier message" in said.err


@pytest.mark.parametrize("alert", sorted(CAP_FILES.glob("*.cap")), ids=lambda path: path.stem)
def test_every_sample_alert_opens_in_requests_that_the_daemon_takes(
    daemon: Daemon, meshnode: Meshnode, alert: Path
) -> None:
    done(meshnode("incident", "open", "--cap", alert, "--json"))
    assert all(len(entry.operations) <= 256 for entry in daemon.service.journal)


def test_a_bad_alert_is_a_bad_input_file_and_opens_nothing(daemon: Daemon, meshnode: Meshnode, tmp_path: Path) -> None:
    bad = tmp_path / "bad.cap"
    bad.write_text("<alert/>")
    said = meshnode("incident", "open", "--cap", bad, "--json")
    assert said.code == 5
    assert said.error["code"].startswith("cap-")
    assert daemon.service.incidents == {}
    assert meshnode("incident", "open", "--cap", tmp_path / "none.cap").code == 4


def test_an_alert_that_breaks_off_says_which_incident_holds_a_part_of_it(
    daemon: Daemon, meshnode: Meshnode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meshnode.cli.incident_open.BATCH_CHANGES_MAX", 5)
    real_change = daemon.service.change
    calls = []

    async def fill_up(*arguments: object) -> object:
        calls.append(arguments)
        daemon.service.disk_is_full = len(calls) > 1
        return await real_change(*arguments)

    monkeypatch.setattr(daemon.service, "change", fill_up)
    said = meshnode("incident", "open", "--cap", sorted(CAP_FILES.glob("*.cap"))[0])
    assert said.code == 4
    assert f"note: incident {'0' * 32} is open, but holds only a part" in said.err
    assert "error: store-full: " in said.err


def test_set_takes_text_as_text_and_numbers_where_the_field_is_a_number(incident: str, meshnode: Meshnode) -> None:
    done(meshnode("incident", "set", incident, "title", "2026"))
    done(meshnode("incident", "set", incident, "dead_persons", "2026"))
    done(meshnode("incident", "set", incident, "summary", '{"not": "a map"}'))
    done(meshnode("incident", "set", incident, "area", '{"type": "Point", "coordinates": [4.35, 50.85]}'))
    done(meshnode("incident", "set", incident, "x-mine", "7"))
    done(meshnode("incident", "set", incident, "x-ours", "7", "--json-value"))
    assert fields(meshnode, incident) == {
        "status": ["open"],
        "title": ["2026"],
        "dead_persons": [2026],
        "summary": ['{"not": "a map"}'],
        "area": [{"type": "Point", "coordinates": [4.35, 50.85]}],
        "x-mine": ["7"],
        "x-ours": [7],
    }


def test_a_value_that_is_no_json_though_it_should_be_is_a_usage_error(incident: str, meshnode: Meshnode) -> None:
    said = meshnode("incident", "set", incident, "x-a", "{", "--json-value", "--json")
    assert (said.code, said.error["code"]) == (2, "usage")


def test_set_replaces_the_one_value_shown_or_those_that_are_named(
    daemon: Daemon, incident: str, meshnode: Meshnode
) -> None:
    daemon.service.plant_conflict(IncidentId(bytes.fromhex(incident)), "title", "Planted")
    values = meshnode("incident", "conflicts", incident, "--json").json[0]["values"]
    done(meshnode("incident", "set", incident, "title", "Third", "--replaces", values[0]["id"][:12] + ".1.0"))
    assert fields(meshnode, incident)["title"] == ["Planted", "Third"]
    said = meshnode("incident", "set", incident, "title", "x", "--replaces", "abcd", "--json")
    assert (said.code, said.error["code"]) == (1, "unknown-value")
    assert "replaced meanwhile" in said.error["reason"]
    gone = values[0]["id"]
    done(meshnode("incident", "set", incident, "title", "Fourth", "--replaces", gone))
    assert fields(meshnode, incident)["title"] == ["Planted", "Third", "Fourth"]
    assert daemon.service.journal[-1].operations[0].replaces == [gone]


def test_set_does_not_settle_a_conflict_by_the_way(daemon: Daemon, incident: str, meshnode: Meshnode) -> None:
    daemon.service.plant_conflict(IncidentId(bytes.fromhex(incident)), "title", "Planted")
    said = meshnode("incident", "set", incident, "title", "Third", "--json")
    assert (said.code, said.error["code"]) == (1, "conflict-open")
    assert f"meshnode incident resolve {incident[:8]} title --value" in said.error["action"]
    assert fields(meshnode, incident)["title"] == ["Two suspects", "Planted"]


def test_set_replaces_nothing_that_was_not_seen(
    daemon: Daemon, incident: str, meshnode: Meshnode, monkeypatch: pytest.MonkeyPatch
) -> None:
    number, real_change = IncidentId(bytes.fromhex(incident)), daemon.service.change

    async def late(*arguments: object) -> object:
        daemon.service.plant_conflict(number, "title", "Late")
        return await real_change(*arguments)

    monkeypatch.setattr(daemon.service, "change", late)
    done(meshnode("incident", "set", incident, "title", "Third"))
    assert fields(meshnode, incident)["title"] == ["Late", "Third"]


def test_a_conflict_shows_both_values_with_author_and_time_until_it_is_resolved(
    daemon: Daemon, incident: str, meshnode: Meshnode
) -> None:
    assert meshnode("incident", "conflicts", incident).out == "no conflicts\n"
    daemon.service.plant_conflict(IncidentId(bytes.fromhex(incident)), "title", "Three suspects")
    shown = meshnode("incident", "conflicts", incident).out
    for part in ("Two suspects", "Three suspects", "BE/be-1", "FR/fr-1", "2023-11-14 22:13:20Z"):
        assert part in shown
    assert "CONFLICT" in meshnode("incident", "show", incident).out
    taken = next(line.split()[3] for line in shown.splitlines() if "Three" in line)
    done(meshnode("incident", "resolve", incident, "title", "--take", taken))
    assert fields(meshnode, incident)["title"] == ["Three suspects"]
    said = meshnode("incident", "resolve", incident, "title", "--take", taken, "--json")
    assert (said.code, said.error["code"]) == (1, "no-conflict")
    assert said.error["action"].endswith(f"conflicts {incident[:8]}")
    assert meshnode("incident", "conflicts").out == "no conflicts\n"


def test_the_command_that_settles_a_conflict_is_printed_ready_to_type(
    daemon: Daemon, incident: str, meshnode: Meshnode
) -> None:
    done(meshnode("incident", "open", "--kind", "other", "--title", "Second"))
    place = done(meshnode("incident", "add", incident, "persons", "role=suspect")).out.split()[1]
    number, person = IncidentId(bytes.fromhex(incident)), bytes.fromhex(place.partition("/")[2])
    daemon.service.plant_conflict(number, "title", "Three suspects")
    daemon.service.plant_conflict(number, "role", "witness", "persons", ObjectId(person))
    assert [item["incident"] for item in meshnode("incident", "conflicts", "--json").json] == [incident, incident]
    while "no conflicts" not in (shown := done(meshnode("incident", "conflicts"))).out:
        typed = shown.out.splitlines()[-1].strip()
        done(meshnode(*shlex.split(typed.replace(incident[:8], incident))[1:]))
    assert fields(meshnode, incident)["title"] == ["Three suspects"]
    assert fields(meshnode, incident, "--object", place)["role"] == ["witness"]


def test_a_conflict_is_resolved_by_a_third_value_and_only_in_what_was_seen(
    daemon: Daemon, incident: str, meshnode: Meshnode, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = IncidentId(bytes.fromhex(incident))
    daemon.service.plant_conflict(number, "title", "Three")
    real_change = daemon.service.change

    async def late(*arguments: object) -> object:
        daemon.service.plant_conflict(number, "title", "Late")
        return await real_change(*arguments)

    monkeypatch.setattr(daemon.service, "change", late)
    done(meshnode("incident", "resolve", incident, "title", "--value", "Four"))
    # The value that arrived meanwhile has the planted device's log as well, so ask for what is visible.
    assert "Four" in fields(meshnode, incident)["title"]
    assert meshnode("incident", "resolve", incident, "title").code == 2


def test_objects_are_added_read_changed_and_deleted_by_short_names(incident: str, meshnode: Meshnode) -> None:
    said = done(meshnode("incident", "add", incident, "persons", "role=suspect", "height_cm=180", "aliases+=Joe"))
    place = said.out.split()[1]
    short = place[:14]
    assert fields(meshnode, incident, "--object", short) == {
        "role": ["suspect"],
        "height_cm": [180],
        "aliases": ["Joe"],
    }
    done(meshnode("incident", "set", incident, "role", "witness", "--object", short))
    done(meshnode("incident", "add-to", incident, "aliases", "Jim", "Jay", "--object", short))
    done(meshnode("incident", "remove-from", incident, "aliases", "Joe", "--object", short))
    assert fields(meshnode, incident, "--object", place) == {
        "role": ["witness"],
        "height_cm": [180],
        "aliases": ["Jim", "Jay"],
    }
    assert "persons/" in meshnode("incident", "show", incident).out
    history = meshnode("incident", "history", incident, "--object", short, "--json").json
    assert len(history["items"]) == 4
    done(meshnode("incident", "delete", incident, short))
    assert meshnode("incident", "show", incident, "--object", place).out.startswith(f"{place} deleted")
    said = meshnode("incident", "show", incident, "--object", "persons/ffff", "--json")
    assert (said.code, said.error["code"]) == (1, "unknown-object")


@pytest.mark.parametrize("text", ["novalue", "=x", "+=x"])
def test_what_is_no_assignment_is_a_usage_error(incident: str, meshnode: Meshnode, text: str) -> None:
    said = meshnode("incident", "add", incident, "persons", text, "--json")
    assert (said.code, said.error["code"]) == (2, "usage")


def test_the_log_book_is_appended_and_its_newest_records_are_listed_the_newest_last(
    incident: str, meshnode: Meshnode
) -> None:
    for number in range(4):
        done(meshnode("incident", "log", incident, f"record {number}", "--precedence", "flash"))
    listed = meshnode("incident", "log", incident, "--limit", "2", "--json").json
    assert [item["record"]["text"] for item in listed] == ["record 2", "record 3"]
    assert "flash" in meshnode("incident", "log", incident).out
    assert meshnode("incident", "log", incident, "--marking", "TLP:RED").code == 2


def test_the_history_is_read_by_pages_or_to_the_end(incident: str, meshnode: Meshnode) -> None:
    for number in range(5):
        meshnode("incident", "log", incident, str(number))
    said = meshnode("incident", "history", incident, "--limit", "4")
    assert "note: there is more: --after 4" in said.err
    rest = meshnode("incident", "history", incident, "--after", "4", "--json").json
    assert (len(rest["items"]), rest["next"]) == (2, "")
    assert len(meshnode("incident", "history", incident, "--limit", "2", "--all", "--json").json["items"]) == 6


def test_a_file_is_attached_and_saved_again(incident: str, meshnode: Meshnode, tmp_path: Path) -> None:
    plan = tmp_path / "plan.txt"
    plan.write_bytes(b"Ground floor")
    place = done(meshnode("incident", "attach", incident, plan)).out.split()[1]
    done(meshnode("incident", "attachment", incident, place, "--out", tmp_path / "again"))
    assert (tmp_path / "again").read_bytes() == b"Ground floor"
    assert "text/plain" in meshnode("incident", "attachments", incident).out
    again = meshnode("incident", "attach", incident, plan, "--json").json["attachments"]
    assert [item["id"] for item in meshnode("incident", "attachments", incident, "--json").json][1:] == again
    assert meshnode("incident", "attach", incident, tmp_path / "none").code == 4
    plan.write_bytes(bytes(1024 * 1024 + 1))
    said = meshnode("incident", "attach", incident, plan, "--json")
    assert (said.code, said.error["code"]) == (1, "attachment-too-large")


def test_slips_of_the_hand_are_told_before_anything_is_sent(incident: str, meshnode: Meshnode) -> None:
    said = meshnode("incident", "share", incident, "nl")
    assert said.code == 2
    assert "did you mean NL?" in said.err
    said = meshnode("incident", "log", incident, " ")
    assert said.code == 2
    assert "TEXT is empty" in said.err


def test_the_history_begins_with_the_newest_page_on_demand(incident: str, meshnode: Meshnode) -> None:
    for number in range(5):
        done(meshnode("incident", "log", incident, f"record {number}"))
    said = done(meshnode("incident", "history", incident, "--newest", "--limit", "2"))
    assert [line.split()[-1].strip('"}') for line in said.out.splitlines()[1:]] == ["3", "4"]
    cursor = said.err.split()[-1]
    assert said.err == f"note: there is more: --newest --after {cursor}\n"
    older = done(meshnode("incident", "history", incident, "--newest", "--limit", "2", "--after", cursor))
    assert [line.split()[-1].strip('"}') for line in older.out.splitlines()[1:]] == ["1", "2"]


def test_the_history_says_what_was_removed(daemon: Daemon, incident: str, meshnode: Meshnode) -> None:
    added = done(meshnode("incident", "add-to", incident, "hazards", "nuclear", "--json")).json["ids"]
    history = daemon.service.incidents[IncidentId(bytes.fromhex(incident))].history
    removal = dataclasses.replace(
        history[-1].operations[0], id=added[0] + "1", kind="remove", value=None, replaces=added
    )
    history.append(dataclasses.replace(history[-1], operations=[removal]))
    assert done(meshnode("incident", "history", incident)).out.splitlines()[-1].endswith("hazards  nuclear")
    alone = done(meshnode("incident", "history", incident, "--newest", "--limit", "1")).out
    assert alone.splitlines()[-1].endswith(f"value {added[0][:8]}.{added[0].split('.', 1)[1]}")


def test_incidents_are_listed_with_their_time_the_newest_first(
    daemon: Daemon, incident: str, meshnode: Meshnode
) -> None:
    done(meshnode("incident", "open", "--kind", "other", "--title", "Long " * 30))
    said = done(meshnode("incident", "list"))
    newest, oldest = said.out.splitlines()[1:]
    assert "Two suspects" in oldest
    assert newest.endswith("…")
    assert "2023-11-14" in newest
    assert said.err == ""
    assert [item["id"] for item in meshnode("incident", "list", "--json").json][-1] == incident
    daemon.service.stored_for_others = 3
    assert "this node stores 3 more for others" in done(meshnode("incident", "list")).err


def test_a_dash_is_standard_input_and_output(daemon: Daemon, meshnode: Meshnode, tmp_path: Path) -> None:
    opened = done(meshnode("incident", "open", "--cap", "-", "--json", stdin=SHORT_ALERT)).json
    where = (opened["incident"], opened["attachments"][0], "--out", "-")
    said = done(meshnode("incident", "attachment", *where))
    assert said.out == SHORT_ALERT
    assert meshnode("incident", "attachment", *where, "--json").code == 2
    assert not Path("-").exists()


def test_an_incident_without_a_title_is_not_opened(daemon: Daemon, meshnode: Meshnode) -> None:
    for title in ("", "  "):
        assert meshnode("incident", "open", "--kind", "other", "--title", title).code == 2
    assert daemon.service.incidents == {}


def test_who_names_an_incident_that_is_not_here_is_sent_to_the_list(incident: str, meshnode: Meshnode) -> None:
    said = meshnode("incident", "show", "f", "--json")
    assert (said.error["code"], said.error["action"]) == (
        "unknown-incident",
        "see what there is: meshnode incident list",
    )


def test_an_area_is_cut_in_the_history_and_text_is_not(incident: str, meshnode: Meshnode) -> None:
    area = {"type": "LineString", "coordinates": [[4.35, 50.0 + step / 100] for step in range(50)]}
    done(meshnode("incident", "set", incident, "area", json.dumps(area)))
    done(meshnode("incident", "log", incident, "a" * 500))
    shown = meshnode("incident", "history", incident).out
    assert "LineString" in shown
    assert "50.49" not in shown
    assert "a" * 500 in shown
    assert "50.49" in meshnode("incident", "history", incident, "--json").out


def test_the_history_says_of_a_void_entry_that_it_did_nothing_and_why(
    incident: str, daemon: Daemon, meshnode: Meshnode
) -> None:
    done(meshnode("incident", "set", incident, "title", "Taken over"))
    history = daemon.service.incidents[IncidentId(bytes.fromhex(incident))].history
    history[-1] = dataclasses.replace(history[-1], void="names-unseen", void_reason="it had not seen them")
    shown = done(meshnode("incident", "history", incident)).out.splitlines()
    assert "void" in shown[-2]
    assert "names-unseen: it had not seen them" in shown[-2]
    assert "set (void)" in shown[-1]
    assert not any("void" in line for line in shown[:-2])
    told = meshnode("incident", "history", incident, "--json").json["items"][-1]
    assert (told["void"], told["void_reason"]) == ("names-unseen", "it had not seen them")


def test_watch_tells_what_happened_behind_a_line(incident: str, meshnode: Meshnode) -> None:
    meshnode("incident", "set", incident, "title", "a\x1b[2Jb", "--operator", "duty.officer")
    first, *_, last = done(meshnode("incident", "watch", incident, "--after", "0", "--count", "2")).out.splitlines()
    said = done(meshnode("incident", "watch", incident, "--after", first.split()[0], "--count", "1"))
    assert said.out.splitlines() == [last]
    assert "duty.officer" in said.out
    assert "a\\x1b[2Jb" in said.out
    lines = meshnode("incident", "watch", "--after", "0", "--count", "2", "--json").out.splitlines()
    assert len(lines) == 2


def test_watch_notes_a_lost_daemon_and_goes_on_at_the_end_of_another_journal(
    incident: str, meshnode: Meshnode, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str | None] = []

    def events(
        client: Client, *, incident: str, after: str | None, on_link: Callable[[bool], None]
    ) -> Iterator[object]:
        asked.append(after)
        if len(asked) == 1:
            on_link(False)
            on_link(True)
            on_link(False)
            raise ApiError("bad-cursor", "the journal has another past there", "read anew", status=400)
        yield client.history(incident).items[0]

    monkeypatch.setattr(Client, "events", events)
    said = done(meshnode("incident", "watch", incident, "--after", "7-5eed0001", "--count", "1"))
    assert asked == ["7-5eed0001", None]
    assert [line.split()[1] for line in said.err.splitlines()] == ["the", "following", "the", "the", "following"]
    assert "another journal (a restored back-up): read the incidents anew" in said.err


@pytest.mark.parametrize("after", ["7-5eed0001", "1-5eed0002"], ids=["beyond the end", "of another past"])
def test_watch_from_where_the_journal_never_was_is_refused_with_what_to_do(
    incident: str, meshnode: Meshnode, after: str
) -> None:
    said = meshnode("incident", "watch", incident, "--after", after, "--json")
    assert (said.code, said.error["code"]) == (1, "bad-cursor")
    assert "your incidents anew" in said.error["action"]


def test_watch_from_a_bare_number_says_what_it_takes(incident: str, meshnode: Meshnode) -> None:
    said = meshnode("incident", "watch", incident, "--after", "1")
    assert said.code == 2
    assert "what a line of this command began with" in said.err


def test_sharing_names_the_new_members_and_an_unknown_noc_is_refused(incident: str, meshnode: Meshnode) -> None:
    assert done(meshnode("incident", "share", incident, "NL,DE", "FR")).out.startswith("shared with NL, DE, FR")
    assert "NL/nl-1" in meshnode("incident", "members", incident).out
    said = meshnode("incident", "share", incident, "XX", "--json")
    assert (said.code, said.error["code"]) == (1, "noc-unknown")


def test_an_incident_is_named_by_any_unambiguous_beginning_of_its_id(incident: str, meshnode: Meshnode) -> None:
    meshnode("incident", "open", "--kind", "other", "--title", "Second")
    said = meshnode("incident", "show", "0", "--json")
    assert (said.code, said.error["code"]) == (1, "ambiguous-id")
    said = meshnode("incident", "show", "abc", "--json")
    assert (said.code, said.error["code"]) == (1, "unknown-incident")
    assert meshnode("incident", "show", "0" * 31 + "1", "--json").json["summary"]["title"] == "Second"


def test_tables_name_every_incident_peer_and_count(incident: str, meshnode: Meshnode) -> None:
    assert "Two suspects" in meshnode("incident", "list").out
    assert meshnode("incident", "list", "--json").json[0]["id"] == incident
    assert "NL/nl-1  cut-off" in meshnode("peers").out
    assert meshnode("peers", "--json").json[0]["they_lack"] is None
    assert "BE/be-1" in meshnode("status").out
    assert meshnode("status", "--json").json["identity"]["noc"] == "BE"


def test_status_shows_what_is_degraded_and_how_often_what_was_refused(
    daemon: Daemon, meshnode: Meshnode, monkeypatch: pytest.MonkeyPatch
) -> None:
    well = daemon.service.node_view()
    degraded = [DegradedView("store-full", "no space is left", "free space", 1_700_000_000_000)]
    ill = dataclasses.replace(well, degraded=degraded, refusals={"bad-signature": 3})
    monkeypatch.setattr(daemon.service, "node_view", lambda: ill)
    shown = meshnode("status").out
    assert "store-full  2023-11-14 22:13:20Z  no space is left  free space" in shown
    assert "bad-signature            3" in shown


def test_a_refusal_of_the_daemon_names_its_code_and_the_value_it_is_about(incident: str, meshnode: Meshnode) -> None:
    said = meshnode("incident", "set", incident, "severity", "7", "--json-value", "--json")
    assert (said.code, said.error["code"]) == (1, "bad-value")
    said = meshnode("incident", "set", "0" * 31 + "9", "title", "x")
    assert said.code == 1
    assert said.err.startswith("error: unknown-incident: ")
    assert "\n  what to do: " in said.err


def test_the_read_only_socket_reads_and_does_not_write(daemon: Daemon, incident: str, meshnode: Meshnode) -> None:
    done(meshnode("incident", "list", "--socket", daemon.read_socket))
    said = meshnode("incident", "log", incident, "x", "--socket", daemon.read_socket, "--json")
    assert (said.code, said.error["code"]) == (1, "read-only-socket")


def test_no_daemon_is_told_apart_from_a_refusal(tmp_path: Path, meshnode: Meshnode) -> None:
    said = meshnode("status", "--socket", tmp_path / "none.sock")
    assert said.code == 3
    assert said.err.startswith("error: daemon-unreachable: ")
    assert "meshnode run" in said.err


def test_the_socket_is_named_by_option_then_environment_then_configuration(
    daemon: Daemon, meshnode: Meshnode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "node.toml"
    config.write_text('[api]\nsocket = "none.sock"\n')
    assert meshnode("status").code == 0  # the environment
    assert meshnode("status", "--config", config).code == 3  # the command line is nearer than the environment
    assert meshnode("status", "--config", config, "--socket", daemon.socket).code == 0
    monkeypatch.delenv("MESHNODE_SOCKET")
    monkeypatch.setattr(connection, "DEFAULT_SOCKET", daemon.socket)
    assert meshnode("status").code == 0
    monkeypatch.setattr(connection, "SYSTEM_CONFIG", config)
    assert meshnode("status").code == 3
    config.write_text("[api]\nsock = 1\n")
    assert meshnode("status").code == 4
