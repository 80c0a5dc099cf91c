"""``meshnode incident watch``: what happens, as it happens. A line for each operation, or a JSON object an entry."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from meshnode.cli import output
from meshnode.cli.connection import client_command, find_incident
from meshnode.cli.incident_read import history_rows

if TYPE_CHECKING:
    from meshnode.client import Client


@click.command()
@click.argument("incident", required=False, metavar="[INCIDENT]")
@click.option("--after", type=click.IntRange(min=0), metavar="N", help="Begin behind journal number N; 0 tells all.")
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="Stop after N entries.")
@client_command()
def watch(client: Client, incident: str | None, after: int | None, count: int | None, as_json: bool) -> None:
    """Follow one incident, or all, until interrupted. Survives a restart of the daemon without a gap."""
    identifier = find_incident(client, incident) if incident is not None else None
    for seen, item in enumerate(client.events(incident=identifier, after=after), 1):
        if as_json:
            output.as_json(item)
        else:
            for row in history_rows(item):
                where = "" if identifier else f"{output.short(item.incident)}  "
                output.line(f"{item.journal:>6}  {where}" + "  ".join(str(cell) for cell in row if cell))
        # A reader behind a pipe must see each entry when it comes, not when a buffer is full.
        sys.stdout.flush()
        if seen == count:
            return
