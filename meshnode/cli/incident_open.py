"""``meshnode incident open``: by hand, or from a CAP 1.2 alert.

The alert is read here, in the client: the daemon sees typed changes only. A large alert takes more than one request:
the first opens the incident and carries the original, the others add to it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from meshnode.cli import output, suggestions
from meshnode.cli.connection import client_command
from meshnode.cli.incident_write import split_nocs, with_relays_option
from meshnode.cli.values import parse_assignment
from meshnode.errors import LocalFaultError, MeshnodeError

if TYPE_CHECKING:
    from meshnode.api.records import AttachmentRequest, ChangeRequest
    from meshnode.client import Client
    from meshnode.core.events import Change
    from meshnode.interchange.cap import CapIncident

BATCH_CHANGES_MAX = 192
"""Changes of an alert in one request: the daemon takes 256, and the first one also carries what was given by hand."""
CAP_READ_BYTES_MAX = 1024 * 1024 + 1
"""One more than the reader of CAP takes, so that it can say that a file is too large."""


@click.command("open")
@click.option(
    "--cap",
    type=click.Path(readable=False, path_type=Path, allow_dash=True),
    metavar="FILE",
    help="CAP 1.2 alert to begin with; - reads it from standard input.",
)
@click.option(
    "--kind",
    metavar="KIND",
    shell_complete=suggestions.kinds,
    help="man-hunt, public-protection, cbrn-e or other; a CAP alert suggests one.",
)
@click.option("--title", metavar="TEXT", help="What people will call it; a CAP alert suggests one.")
@click.option(
    "--field",
    "fields",
    multiple=True,
    metavar="FIELD=VALUE",
    shell_complete=suggestions.assignments,
    help="Further first values; FIELD+=VALUE in sets.",
)
@click.option("--share", "share_with", multiple=True, metavar="NOC,NOC", help="NOCs that become members at once.")
@with_relays_option
@click.option("--language", default="en", show_default=True, help="Preferred language of the alert's title.")
@client_command(writes=True)
def open_command(
    client: Client,
    cap: Path | None,
    kind: str | None,
    title: str | None,
    fields: tuple[str, ...],
    share_with: tuple[str, ...],
    with_relays: bool,
    language: str,
    as_json: bool,
) -> None:
    """Open an incident, from a CAP alert or by hand."""
    if title is not None and not title.strip():
        raise click.UsageError("--title is empty: name the incident, or leave it to an alert")
    alert = _read_cap(cap, language) if cap is not None else None
    chosen_kind = kind or (alert.kind if alert else None)
    if chosen_kind is None:
        raise click.UsageError("give --kind, or an alert with --cap")
    if title is None and alert is None:
        raise click.UsageError("give --title, or an alert with --cap")
    by_hand = _changes_by_hand(title, fields, begun=alert is None)
    replaced = {change.field for change in by_hand}
    batches, attachments = _from_alert(alert, replaced) if alert else ([], [])
    first = by_hand + (batches[0] if batches else [])
    notes = [*alert.notes, *_earlier(client, alert)] if alert else []
    written = client.open_incident(
        chosen_kind,
        changes=first,
        attachments=attachments,
        share_with=split_nocs(share_with),
        with_relays=with_relays,
    )
    try:
        for batch in filter(None, batches[1:]):
            client.change(written.incident, batch)
    except MeshnodeError:
        output.warning(f"incident {written.incident} is open, but holds only a part of the alert; the file is attached")
        raise
    if as_json:
        files = written.attachments
        output.as_json({"incident": written.incident, "kind": chosen_kind, "attachments": files, "notes": notes})
        return
    for note in notes:
        output.warning(note)
    output.line(f"opened {written.incident}")
    for made, file in zip(written.attachments, attachments, strict=True):
        output.line(f"attached attachments/{output.short(made)}, {file.name}")


def _earlier(client: Client, alert: CapIncident) -> list[str]:
    """Incidents that this node holds already of the same message, or of one that it refers to."""
    said = {change.field: str(change.value) for change in alert.changes if change.collection == "incident"}
    own = (said.get("cap.sender", ""), said.get("cap.identifier", ""))
    # A reference is sender,identifier,sent.
    named = {tuple(str(change.value).split(",")[:2]) for change in alert.changes if change.field == "cap.references"}
    notes = []
    for summary in client.incidents():
        fields = client.incident(summary.id).fields
        senders, identifiers = (
            {str(value.value) for value in fields[name].values} if name in fields else set()
            for name in ("cap.sender", "cap.identifier")
        )
        held = {(sender, identifier) for sender in senders for identifier in identifiers}
        name = f"incident {output.short(summary.id)} ({output.cut(summary.title)})"
        if own in held:
            notes.append(f"this alert was opened before: {name}; what is opened now is a second one of it")
        elif named & held:
            notes.append(f"the alert refers to a message that was opened before: {name}")
    return notes


def _changes_by_hand(title: str | None, fields: Sequence[str], *, begun: bool) -> list[Any]:
    """``begun``: there is no alert to say where the incident stands, so it is open. Precedence and marking are never
    assumed: they are decisions of somebody, and a wrong one is worse than none."""
    from meshnode.api.records import AddChange, SetChange

    assignments = [parse_assignment("incident", text) for text in fields]
    changes: list[Any] = [] if title is None else [SetChange("title", title)]
    if begun and all(item.field != "status" for item in assignments):
        changes.append(SetChange("status", "open"))
    for item in assignments:
        changes.append(AddChange(item.field, item.value) if item.to_set else SetChange(item.field, item.value))
    return changes


def _read_cap(path: Path, language: str) -> CapIncident:
    from meshnode.interchange.cap import read_cap_untrusted

    if str(path) == "-":
        data = sys.stdin.buffer.read(CAP_READ_BYTES_MAX)
        return read_cap_untrusted(data, "alert.cap", language=language)
    try:
        with path.open("rb") as file:
            data = file.read(CAP_READ_BYTES_MAX)
    except OSError as error:
        raise LocalFaultError("file-unreadable", f"{path}: {error.strerror}", "check the path and its mode") from None
    return read_cap_untrusted(data, path.name, language=language)


def _from_alert(alert: CapIncident, replaced: set[str]) -> tuple[list[list[ChangeRequest]], list[AttachmentRequest]]:
    """The alert's changes as requests in batches, without the incident's fields that were given by hand."""
    from meshnode.api.records import AttachmentRequest

    batches = [
        [_request(change) for change in batch if change.collection != "incident" or change.field not in replaced]
        for batch in alert.batches(limit=BATCH_CHANGES_MAX)
    ]
    return batches, [AttachmentRequest(item.name, item.media_type, item.data) for item in alert.attachments]


def _request(change: Change) -> ChangeRequest:
    """A change of the core as the API takes it."""
    from meshnode.api import records
    from meshnode.core.events import ChangeKind

    collection, object_id = change.collection, change.object.hex() if change.object else None
    replaces = None if change.replaces is None else [dot.text for dot in change.replaces]
    match change.kind:
        case ChangeKind.SET:
            return records.SetChange(change.field, change.value, collection, object_id, replaces)
        case ChangeKind.ADD:
            return records.AddChange(change.field, change.value, collection, object_id)
        case ChangeKind.REMOVE:
            return records.RemoveChange(change.field, change.value, collection, object_id, replaces)
        case ChangeKind.CREATE:
            return records.CreateChange(collection, object_id)
        case ChangeKind.DELETE:
            return records.DeleteChange(collection, object_id or "")
        case ChangeKind.LOG:
            return records.LogChange(records.LogRecord(**change.value))
