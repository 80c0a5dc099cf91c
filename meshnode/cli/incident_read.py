"""Reading incidents: list, show, history, conflicts, members, attachments."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import click

from meshnode.cli import output
from meshnode.cli.connection import client_command, find_incident, find_object, one_of

if TYPE_CHECKING:
    from meshnode.client import Client
    from meshnode.core.views import AuthorView, FieldView, HistoryView, IncidentView, ObjectView, OperationView

incident_argument = click.argument("incident", metavar="INCIDENT")
object_option = click.option(
    "--object", "object_text", metavar="COLLECTION/ID", help="An object of the incident, like persons/1a2b."
)


@click.command("list")
@client_command()
def list_command(client: Client, as_json: bool) -> None:
    """List the incidents that this node can read, the newest first."""
    found = sorted(client.incidents(), key=lambda item: (-item.opened_ms, item.id))
    if as_json:
        output.as_json(found)
        return
    output.table(
        [
            "ID",
            "OPENED",
            "KIND",
            "STATUS",
            "SEVERITY",
            "PRECEDENCE",
            "MARKING",
            "CONFLICTS",
            "ENTRIES",
            "DIGEST",
            "TITLE",
        ],
        [
            [
                output.short(item.id),
                output.time_utc(item.opened_ms),
                item.kind,
                item.status,
                item.severity,
                item.precedence,
                item.marking,
                item.conflicts,
                item.entries,
                output.short(item.digest),
                output.cut(item.title),
            ]
            for item in found
        ],
    )
    unread = client.node().incidents - len(found)
    if unread > 0:
        output.warning(
            f"this node stores {unread} more for others (status counts them), and cannot read them: it is no member"
        )


@click.command()
@incident_argument
@object_option
@client_command()
def show(client: Client, incident: str, object_text: str | None, as_json: bool) -> None:
    """Show an incident, or one object of it, with every visible value and its author."""
    identifier = find_incident(client, incident)
    if object_text is not None:
        collection, found = find_object(client, identifier, object_text)
        view = client.object(identifier, collection, found or "")
        if as_json:
            output.as_json(view)
        else:
            _print_object(view)
        return
    whole = client.incident(identifier)
    if as_json:
        output.as_json(whole)
    else:
        _print_incident(whole)


@click.command()
@incident_argument
@object_option
@click.option("--after", default="", metavar="CURSOR", help="Continue behind this place; printed at the end of a page.")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="Entries in a page.")
@click.option("--all", "whole", is_flag=True, help="Read to the end.")
@click.option("--newest", is_flag=True, help="Begin with the newest page, the newest entry last; --after goes back.")
@client_command()
def history(
    client: Client,
    incident: str,
    object_text: str | None,
    after: str,
    limit: int,
    whole: bool,
    newest: bool,
    as_json: bool,
) -> None:
    """Show what was changed, by whom and when, causes before what builds on them."""
    identifier = find_incident(client, incident)
    object_id = find_object(client, identifier, object_text).object
    order = "newest" if newest else "oldest"
    page = client.history(identifier, after=after, limit=limit, object_id=object_id, order=order)
    items, cursor = list(page.items), page.next
    while whole and cursor:
        page = client.history(identifier, after=cursor, limit=limit, object_id=object_id, order=order)
        items, cursor = items + list(page.items), page.next
    if newest:
        items.reverse()
    if as_json:
        output.as_json({"items": items, "next": cursor})
        return
    known = {operation.id: operation.value for item in items for operation in item.operations}
    output.table(HISTORY_HEADS, [row for item in items for row in history_rows(item, known)])
    if cursor:
        output.warning(f"there is more: {'--newest ' if newest else ''}--after {cursor}")


@click.command()
@click.argument("incident", required=False, metavar="[INCIDENT]")
@client_command()
def conflicts(client: Client, incident: str | None, as_json: bool) -> None:
    """Show every field with more than one value, of one incident or of all, and how to settle each."""
    if incident is not None:
        incidents = [find_incident(client, incident)]
    else:
        incidents = [summary.id for summary in client.incidents() if summary.conflicts]
    found = [(identifier, item) for identifier in incidents for item in client.conflicts(identifier)]
    if as_json:
        output.as_json([{"incident": identifier} | asdict(item) for identifier, item in found])
        return
    if not found:
        output.line("no conflicts")
        return
    rows = [
        [
            output.short(identifier),
            place_text(item.collection, item.object),
            item.field,
            output.short(value.id),
            output.value_text(value.value),
            author_text(value.author),
            output.time_utc(value.author.time_ms),
        ]
        for identifier, item in found
        for value in item.values
    ]
    output.table(["INCIDENT", "OBJECT", "FIELD", "VALUE ID", "VALUE", "AUTHOR", "TIME"], rows)
    output.line("")
    output.line("to settle one, keep one of its values (or give a new one, with --value VALUE):")
    for identifier, item in found:
        for value in item.values:
            output.line(
                f"  {resolve_text(identifier, item.collection, item.object, item.field)} "
                f"--take {output.short(value.id)}"
            )


@click.command()
@incident_argument
@client_command()
def members(client: Client, incident: str, as_json: bool) -> None:
    """Show which devices can read and write the incident."""
    found = client.members(find_incident(client, incident))
    if as_json:
        output.as_json(found)
        return
    output.table(
        ["MEMBER", "ROLE", "HOLDS KEY", "DEVICE", "ADDED BY", "ADDED"],
        [
            [
                f"{item.noc}/{item.name}",
                item.role,
                item.holds_current_key,
                output.short(item.device),
                output.short(item.added_by),
                output.time_utc(item.added_at_ms),
            ]
            for item in found
        ],
    )


@click.command()
@incident_argument
@client_command()
def attachments(client: Client, incident: str, as_json: bool) -> None:
    """List the files kept with the incident."""
    found = client.attachments(find_incident(client, incident))
    if as_json:
        output.as_json(found)
        return
    output.table(
        ["ID", "NAME", "TYPE", "BYTES", "AUTHOR", "TIME"],
        [
            [
                output.short(item.id),
                item.name,
                item.media_type,
                item.size_bytes,
                author_text(item.author),
                output.time_utc(item.author.time_ms),
            ]
            for item in found
        ],
    )


@click.command()
@incident_argument
@click.argument("attachment_id", metavar="ATTACHMENT")
@click.option(
    "--out",
    type=click.Path(readable=False, path_type=Path, allow_dash=True),
    required=True,
    metavar="FILE",
    help="New file to write; - is standard output.",
)
@client_command()
def attachment(client: Client, incident: str, attachment_id: str, out: Path, as_json: bool) -> None:
    """Save one file as it came. An existing FILE is not overwritten."""
    from meshnode.errors import LocalFaultError

    if str(out) == "-" and as_json:
        raise click.UsageError("--json and --out - would both write to standard output")
    identifier = find_incident(client, incident)
    ids = [item.id for item in client.attachments(identifier)]
    attachment_id = attachment_id.removeprefix("attachments/")
    file = client.attachment(identifier, one_of(ids, attachment_id, "attachment", "meshnode incident attachments"))
    if str(out) == "-":
        sys.stdout.buffer.write(file.data)
        return
    try:
        with out.open("xb") as target:
            target.write(file.data)
    except OSError as error:
        raise LocalFaultError("file-not-written", f"{out}: {error.strerror}", "name another file with --out") from None
    shown = {"name": file.name, "media_type": file.media_type, "size_bytes": len(file.data), "file": str(out)}
    if as_json:
        output.as_json(shown)
    else:
        output.fields(shown)


# --- how things look --------------------------------------------------------------------------------------------

HISTORY_HEADS = ("TIME", "AUTHOR", "WHAT", "OBJECT", "FIELD", "VALUE")


def history_rows(item: HistoryView, known: Mapping[str, Any] = MappingProxyType({})) -> list[Sequence[Any]]:
    """One row for each operation of a merged entry; before those that did nothing, one that says why. ``known``: the
    values of operations that were read too, by id; a removal names its values by their ids alone."""
    head = [output.time_utc(item.author.time_ms), author_text(item.author)]
    rows: list[Sequence[Any]] = []
    if item.void:
        rows.append([*head, "void", "", "", f"{item.void}: {item.void_reason}"])
    rows += [
        [
            *head,
            f"{operation.kind} (void)" if item.void else operation.kind,
            place_text(operation.collection, operation.object),
            operation.field,
            _removed(operation, known) if operation.kind == "remove" else _told(operation.value),
        ]
        for operation in item.operations
    ]
    return rows


def _removed(operation: OperationView, known: Mapping[str, Any]) -> str:
    names = [_told(known[name]) if name in known else f"value {output.short(name)}" for name in operation.replaces]
    return ", ".join(names) or _told(operation.value)


def _told(value: Any) -> str:
    """A value in the history: whole, for a log record is worth reading, except the hundreds of corners of an area."""
    if value is None:
        return ""
    is_geometry = isinstance(value, dict) and ("coordinates" in value or "geometries" in value)
    return output.cut(output.value_text(value)) if is_geometry else output.value_text(value)


def author_text(author: AuthorView) -> str:
    return f"{author.noc}/{author.name} {author.operator}".rstrip()


def resolve_text(incident: str, collection: str, object_id: str, field: str) -> str:
    """The command that settles a conflict, up to what is to be kept. The field's name came from elsewhere: quoted."""
    place = f" --object {shlex.quote(place_text(collection, object_id))}" if object_id.strip("0") else ""
    return f"meshnode incident resolve {output.short(incident)} {shlex.quote(field)}{place}"


def place_text(collection: str, object_id: str) -> str:
    """``persons/1a2b3c4d``; the incident itself has an id of zeros."""
    return f"{collection}/{output.short(object_id)}" if object_id.strip("0") else collection


def _print_incident(view: IncidentView) -> None:
    summary = view.summary
    output.fields(
        {
            "incident": summary.id,
            "kind": summary.kind,
            "title": summary.title,
            "digest": summary.digest,
            "entries": summary.entries,
            "waiting": summary.waiting,
            "conflicts": summary.conflicts,
            "members": ", ".join(f"{item.noc}/{item.name}" for item in view.members),
        }
    )
    output.line("")
    _print_fields(view.fields)
    for collection, objects in view.collections.items():
        for item in objects:
            if not item.deleted:
                output.line("")
                output.line(f"{collection}/{output.short(item.id)} {_state(item)}".rstrip())
                _print_fields(item.fields)


def _print_object(view: ObjectView) -> None:
    output.line(f"{view.collection}/{view.id} {_state(view)}".rstrip())
    _print_fields(view.fields)


def _state(view: ObjectView) -> str:
    return "deleted" if view.deleted else "edited after it was deleted" if view.edited_after_delete else ""


def _print_fields(fields: dict[str, FieldView]) -> None:
    rows = []
    for name, field in fields.items():
        for value in field.values:
            mark = "CONFLICT" if field.conflict else "" if value.well_typed else "odd type"
            rows.append(
                [
                    name,
                    mark,
                    output.value_text(value.value),
                    author_text(value.author),
                    output.time_utc(value.author.time_ms),
                    output.short(value.id),
                ]
            )
    output.table(["FIELD", "", "VALUE", "AUTHOR", "TIME", "VALUE ID"], rows)
