"""``meshnode incident watch``: what happens, as it happens. A line for each operation, or a JSON object an entry."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from meshnode.cli import output
from meshnode.cli.connection import client_command, find_incident
from meshnode.cli.incident_read import history_rows
from meshnode.errors import MeshnodeError

if TYPE_CHECKING:
    from meshnode.client import Client
    from meshnode.core.views import HistoryView


@click.command()
@click.argument("incident", required=False, metavar="[INCIDENT]")
@click.option("--after", metavar="ID", help="Begin behind the entry whose line began with ID; 0 tells all.")
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="Stop after N entries.")
@client_command()
def watch(client: Client, incident: str | None, after: str | None, count: int | None, as_json: bool) -> None:
    """Follow one incident, or all, until interrupted. Survives a restart of the daemon without a gap."""
    from meshnode.api.records import EVENT_ID_PATTERN

    if after is not None and not re.fullmatch(EVENT_ID_PATTERN, after):
        raise click.UsageError("--after takes what a line of this command began with, like 57-3fa9c2d1, or 0")
    identifier = find_incident(client, incident) if incident is not None else None
    for seen, item in enumerate(_followed(client, identifier, after), 1):
        if as_json:
            output.as_json(item)
        else:
            for row in history_rows(item):
                where = "" if identifier else f"{output.short(item.incident)}  "
                output.line(f"{item.cursor:>15}  {where}" + "  ".join(str(cell) for cell in row if cell))
        # A reader behind a pipe must see each entry when it comes, not when a buffer is full.
        sys.stdout.flush()
        if seen == count:
            return


def _followed(client: Client, incident: str | None, after: str | None) -> Iterator[HistoryView]:
    """The client's events, with notes for the person. An id that was given by hand and is not of this journal stays an
    error; a node that comes back with another journal while we follow it is gone along with."""
    lost = False

    def on_link(following: bool) -> None:
        nonlocal lost
        lost = not following
        output.warning("following again" if following else "the connection to the daemon is lost; trying again")

    while True:
        try:
            yield from client.events(incident=incident, after=after, on_link=on_link)
        except MeshnodeError as error:
            if error.code != "bad-cursor" or not lost:
                raise
        lost, after = False, None
        output.warning("the node came back with another journal (a restored back-up): read the incidents anew")
        output.warning("following again, from now on")
