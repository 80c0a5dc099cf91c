"""Changing incidents. Every command returns when the change is durable at this node, and tells the ids it made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from meshnode.cli import output, suggestions
from meshnode.cli.connection import (
    ObjectName,
    client_command,
    find_incident,
    find_object,
    find_value,
    read_field,
    value_id,
)
from meshnode.cli.incident_read import author_text, incident_argument, object_option, place_text, resolve_text
from meshnode.cli.values import parse_assignment, typed_value
from meshnode.core.names import is_noc_code
from meshnode.errors import LocalFaultError, RefusedError

if TYPE_CHECKING:
    from meshnode.api.records import ChangeRequest, WrittenView
    from meshnode.client import Client

json_value_option = click.option("--json-value", is_flag=True, help="VALUE is JSON, whatever the field.")
CAP_HEAD_BYTES = 4096
"""The root element, which names its namespace, begins behind the XML declaration and maybe a comment."""

with_relays_option = click.option(
    "--with-relays", is_flag=True, help="Let relays (hubs) of these NOCs read it too; it cannot be undone."
)


@click.command("set")
@incident_argument
@click.argument("field", shell_complete=suggestions.fields)
@click.argument("value", shell_complete=suggestions.values)
@object_option
@click.option(
    "--replaces",
    multiple=True,
    metavar="VALUE-ID",
    help="Replace only these values, visible or not; without it, the one that is shown now.",
)
@json_value_option
@client_command(writes=True)
def set_command(
    client: Client,
    incident: str,
    field: str,
    value: str,
    object_text: str | None,
    replaces: tuple[str, ...],
    json_value: bool,
    as_json: bool,
) -> None:
    """Give FIELD a value, in place of what it shows now. A conflict is settled by resolve, or with --replaces."""
    from meshnode.api.records import SetChange

    identifier = find_incident(client, incident)
    place = find_object(client, identifier, object_text)
    held = read_field(client, identifier, place, field)
    shown = held.values if held is not None else []
    if held is not None and held.conflict and not replaces:
        command = resolve_text(identifier, place.collection, place.object or "", field)
        raise RefusedError(
            "conflict-open",
            f"{field} shows {len(shown)} values, and setting it would drop all of them",
            f"settle the conflict: {command} --value VALUE; or name with --replaces what VALUE stands for",
        )
    # Named even where nothing was typed: a value that arrives meanwhile was seen by nobody, and stays as a conflict.
    replaced = [value_id(shown, text) for text in replaces] if replaces else [value.id for value in shown]
    typed = typed_value(place.collection, field, value, json_wanted=json_value)
    change = SetChange(field, typed, place.collection, place.object, replaced)
    _edit(client, identifier, place, [change], as_json)


@click.command()
@incident_argument
@click.argument("field", shell_complete=suggestions.fields)
@click.option("--take", metavar="VALUE-ID", help="Keep this one of the values.")
@click.option(
    "--value", metavar="VALUE", shell_complete=suggestions.values, help="Put a new value in place of all of them."
)
@object_option
@json_value_option
@client_command(writes=True)
def resolve(
    client: Client,
    incident: str,
    field: str,
    take: str | None,
    value: str | None,
    object_text: str | None,
    json_value: bool,
    as_json: bool,
) -> None:
    """Settle a conflict: one of the values, or a new one, replaces all that are shown now."""
    from meshnode.api.records import SetChange

    if (take is None) == (value is None):
        raise click.UsageError("give either --take VALUE-ID or --value VALUE")
    identifier = find_incident(client, incident)
    place = find_object(client, identifier, object_text)
    held = read_field(client, identifier, place, field)
    if held is None or not held.conflict:
        listing = f"meshnode incident conflicts {output.short(identifier)}"
        raise RefusedError("no-conflict", f"{field} has no conflict here", f"see: {listing}")
    if take is not None:
        settled = find_value(held.values, take).value
    else:
        settled = typed_value(place.collection, field, value or "", json_wanted=json_value)
    # The values seen now, by name: one that arrives meanwhile stays visible as a new conflict.
    seen = [one.id for one in held.values]
    change = SetChange(field, settled, place.collection, place.object, seen)
    _edit(client, identifier, place, [change], as_json)


@click.command()
@incident_argument
@click.argument("collection", shell_complete=suggestions.collections)
@click.argument("assignments", nargs=-1, metavar="[FIELD=VALUE]...", shell_complete=suggestions.assignments)
@client_command(writes=True)
def add(client: Client, incident: str, collection: str, assignments: tuple[str, ...], as_json: bool) -> None:
    """Make a new object in COLLECTION (persons, vehicles, locations, units, tasks, reports).

    FIELD+=VALUE adds an element to a field that is a set.
    """
    import secrets

    from meshnode.api.records import AddChange, CreateChange

    identifier = find_incident(client, incident)
    parsed = [parse_assignment(collection, text) for text in assignments]
    object_id = secrets.token_hex(16)
    registers = {item.field: item.value for item in parsed if not item.to_set}
    changes: list[ChangeRequest] = [CreateChange(collection, object_id, registers)]
    changes += [AddChange(item.field, item.value, collection, object_id) for item in parsed if item.to_set]
    written = client.change(identifier, changes)
    if as_json:
        output.as_json(written)
    else:
        output.line(f"added {collection}/{object_id}")


@click.command("add-to")
@incident_argument
@click.argument("field", shell_complete=suggestions.fields)
@click.argument("values", nargs=-1, required=True, metavar="VALUE...", shell_complete=suggestions.values)
@object_option
@json_value_option
@client_command(writes=True)
def add_to(
    client: Client,
    incident: str,
    field: str,
    values: tuple[str, ...],
    object_text: str | None,
    json_value: bool,
    as_json: bool,
) -> None:
    """Add elements to FIELD, which is a set."""
    from meshnode.api.records import AddChange

    identifier = find_incident(client, incident)
    place = find_object(client, identifier, object_text)
    typed = [typed_value(place.collection, field, value, json_wanted=json_value) for value in values]
    changes = [AddChange(field, value, place.collection, place.object) for value in typed]
    _edit(client, identifier, place, changes, as_json)


@click.command("remove-from")
@incident_argument
@click.argument("field", shell_complete=suggestions.fields)
@click.argument("values", nargs=-1, required=True, metavar="VALUE...", shell_complete=suggestions.values)
@object_option
@json_value_option
@client_command(writes=True)
def remove_from(
    client: Client,
    incident: str,
    field: str,
    values: tuple[str, ...],
    object_text: str | None,
    json_value: bool,
    as_json: bool,
) -> None:
    """Take elements out of FIELD, which is a set. One that somebody adds at the same time stays."""
    from meshnode.api.records import RemoveChange

    identifier = find_incident(client, incident)
    place = find_object(client, identifier, object_text)
    typed = [typed_value(place.collection, field, value, json_wanted=json_value) for value in values]
    changes = [RemoveChange(field, value, place.collection, place.object) for value in typed]
    _edit(client, identifier, place, changes, as_json)


@click.command()
@incident_argument
@click.argument("object_text", metavar="COLLECTION/ID")
@client_command(writes=True)
def delete(client: Client, incident: str, object_text: str, as_json: bool) -> None:
    """Delete an object. It stays readable in the history, and comes back if somebody edits it at the same time."""
    from meshnode.api.records import DeleteChange

    identifier = find_incident(client, incident)
    collection, found = find_object(client, identifier, object_text)
    _print_written(client.change(identifier, [DeleteChange(collection, found or "")]), as_json)


@click.command()
@incident_argument
@click.argument("text", required=False, metavar="[TEXT]")
@click.option(
    "--precedence",
    metavar="WORD",
    shell_complete=suggestions.record_word("precedence"),
    help="flash, immediate, priority or routine.",
)
@click.option(
    "--marking",
    metavar="TLP",
    shell_complete=suggestions.record_word("marking"),
    help="How far it may be passed on, like TLP:AMBER.",
)
@click.option("--category", metavar="WORD", help="What the record is about.")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="Newest records to list.")
@client_command(writes=True)
def log(
    client: Client,
    incident: str,
    text: str | None,
    precedence: str | None,
    marking: str | None,
    category: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """Append TEXT to the log book; without TEXT, list its newest records, the newest last."""
    identifier = find_incident(client, incident)
    if text is not None:
        if not text.strip():
            raise click.UsageError("TEXT is empty; leave it out to list the records")
        written = client.append_log(identifier, text, precedence=precedence, marking=marking, category=category)
        _print_written(written, as_json)
        return
    if precedence or marking or category:
        raise click.UsageError("--precedence, --marking and --category belong to a TEXT")
    items = list(reversed(client.log(identifier, limit=limit, order="newest").items))
    if as_json:
        output.as_json(items)
        return
    output.table(
        ["TIME", "AUTHOR", "PRECEDENCE", "MARKING", "TEXT"],
        [
            [
                output.time_utc(item.author.time_ms),
                author_text(item.author),
                item.record.get("precedence", ""),
                item.record.get("marking", ""),
                output.value_text(item.record.get("text", "")),
            ]
            for item in items
        ],
    )


@click.command()
@incident_argument
@click.argument("file", type=click.Path(readable=False, path_type=Path), metavar="FILE")
@click.option("--name", metavar="NAME", help="Name to keep it under; that of FILE by default.")
@click.option("--type", "media_type", metavar="TYPE", help="Media type, like image/jpeg; guessed from the name.")
@client_command(writes=True)
def attach(client: Client, incident: str, file: Path, name: str | None, media_type: str | None, as_json: bool) -> None:
    """Keep FILE with the incident, as it is; at most 1 MiB. All members receive it."""
    import mimetypes

    from meshnode.api.records import ATTACHMENT_BYTES_MAX, AttachmentRequest

    identifier = find_incident(client, incident)
    try:
        with file.open("rb") as source:
            data = source.read(ATTACHMENT_BYTES_MAX + 1)
    except OSError as error:
        raise LocalFaultError("file-unreadable", f"{file}: {error.strerror}", "check the path and its mode") from None
    if len(data) > ATTACHMENT_BYTES_MAX:
        raise RefusedError("attachment-too-large", f"{file} has more than 1 MiB", "attach where it is kept instead")
    kept_as = name or file.name
    guessed = media_type or _cap_type(data) or mimetypes.guess_type(kept_as)[0] or "application/octet-stream"
    (made,) = client.change(identifier, [], [AttachmentRequest(kept_as, guessed, data)]).attachments
    if as_json:
        output.as_json({"incident": identifier, "attachments": [made], "media_type": guessed})
    else:
        output.line(f"attached attachments/{output.short(made)} as {guessed}")


@click.command()
@incident_argument
@click.argument("nocs", nargs=-1, required=True, metavar="NOC...")
@with_relays_option
@client_command(writes=True)
def share(client: Client, incident: str, nocs: tuple[str, ...], with_relays: bool, as_json: bool) -> None:
    """Make the devices of these NOCs members. They can read the whole record, past and future.

    It counts for the devices that are known now: one that a NOC enrols later sees nothing until the incident is shared
    with that NOC again. That is so in your own NOC, too.
    """
    identifier = find_incident(client, incident)
    written = client.share(identifier, split_nocs(nocs), with_relays=with_relays)
    if as_json:
        output.as_json(written)
    else:
        output.line(
            f"shared with {', '.join(split_nocs(nocs))}; see: meshnode incident members {output.short(identifier)}"
        )


def _cap_type(data: bytes) -> str | None:
    """``.cap`` is also what packet captures are called, and alerts are sent as ``.xml`` too: the content decides."""
    head = data[:CAP_HEAD_BYTES].removeprefix(b"\xef\xbb\xbf").lstrip()
    return "application/cap+xml" if head.startswith(b"<") and b"urn:oasis:names:tc:emergency:cap:1." in head else None


def split_nocs(texts: tuple[str, ...]) -> list[str]:
    """``BE,NL`` and ``BE NL`` alike."""
    nocs = [noc.strip() for text in texts for noc in text.split(",") if noc.strip()]
    for noc in nocs:
        if not is_noc_code(noc) and is_noc_code(noc.upper()):
            raise click.UsageError(f"{noc!r} is no NOC code; did you mean {noc.upper()}?")
    return nocs


def _edit(client: Client, incident: str, place: ObjectName, changes: Sequence[ChangeRequest], as_json: bool) -> None:
    """Makes the changes; says so when they bring back what had been deleted."""
    was_deleted = place.object is not None and client.object(incident, place.collection, place.object).deleted
    written = client.change(incident, changes)
    if was_deleted and not client.object(incident, place.collection, place.object or "").deleted:
        name = place_text(place.collection, place.object or "")
        output.warning(
            f"{name} was deleted; this change brings it back with all it had. "
            f"To delete it again: meshnode incident delete {output.short(incident)} {name}"
        )
    _print_written(written, as_json)


def _print_written(written: WrittenView, as_json: bool) -> None:
    if as_json:
        output.as_json(written)
        return
    output.line("done: " + ", ".join(f"value {output.short(identifier)}" for identifier in written.ids))
