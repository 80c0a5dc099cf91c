"""``meshnode config``: check a configuration, show it with every default, print the reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from meshnode.cli import output
from meshnode.cli.base import json_option

_config_argument = click.argument("file", type=click.Path(readable=False, path_type=Path), metavar="FILE")


@click.group()
def config() -> None:
    """Check and explain the configuration."""


@config.command()
@_config_argument
@click.option("--file-only", is_flag=True, help="Check the file alone: it is meant for another machine or user.")
@json_option
def check(file: Path, file_only: bool, as_json: bool) -> None:
    """Read FILE as the daemon would, and look whether this user could start the node here.

    Exit code 4 and what is wrong, if anything is. Notes tell what is odd and stops nothing, and what was not looked at.
    """
    from meshnode.config import load
    from meshnode.config.surroundings import faults, notes

    loaded = load(file)
    noted = ["only the file was looked at: no group, key or directory"] if file_only else notes(loaded)
    if not file_only and (found := faults(loaded)):
        raise found[0]
    if as_json:
        output.as_json({"ok": True, "peers": len(loaded.peers), "socket": str(loaded.socket), "notes": noted})
        return
    output.line(f"{file} is right: data in {loaded.node.data_dir}, {len(loaded.peers)} peers, API at {loaded.socket}")
    for note in noted:
        output.warning(note)


@config.command()
@_config_argument
@json_option
def show(file: Path, as_json: bool) -> None:
    """Show every setting of FILE, those left to their defaults too."""
    from meshnode.config import load, shown

    tables = shown(load(file))
    if as_json:
        output.as_json(tables)
        return
    for name, content in tables.items():
        for record in content if isinstance(content, list) else [content]:
            output.line(f"[[{name}]]" if isinstance(content, list) else f"[{name}]")
            for key, value in record.items():
                if value != "":
                    output.line(f"{key} = {output.json_text(value)}")
            output.line("")


@config.command()
def reference() -> None:
    """Print the tables of docs/configuration.md."""
    from meshnode.config import TABLES, settings_of

    for name, record in TABLES.items():
        click.echo(f"### {f'[[{name}]]' if name == 'peer' else f'[{name}]'}\n")
        click.echo("| key | value | default | meaning |\n|---|---|---|---|")
        defaults = record()
        for key, (field, setting) in settings_of(record).items():
            default = setting.default_text or f"`{output.json_text(setting.kind.show(getattr(defaults, field)))}`"
            cells: list[Any] = [f"`{key}`", setting.kind.form, default, setting.meaning]
            click.echo("| " + " | ".join(cells) + " |")
        click.echo("")
