"""Finding the daemon, and finding what a person names in short.

A socket is named by ``--socket``, by ``MESHNODE_SOCKET``, by the configuration (``--config``, ``MESHNODE_CONFIG``), by
the configuration of a packaged installation, or it is the default one; the first that is given counts, and what is on
the command line comes before the environment.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click
from click.core import ParameterSource

from meshnode.cli import output
from meshnode.cli.base import json_option
from meshnode.core.ids import parse_dot_untrusted
from meshnode.errors import RefusedError, UntrustedInputError

if TYPE_CHECKING:
    from meshnode.client import Client
    from meshnode.core.views import FieldView, ValueView

SYSTEM_CONFIG = Path("/etc/meshnode/meshnode.toml")
DEFAULT_SOCKET = Path("/var/lib/meshnode/api.sock")
ID_DIGITS = 32

F = TypeVar("F", bound=Callable[..., Any])


class ObjectName(NamedTuple):
    """An object of a collection; an empty ``object`` means the incident itself."""

    collection: str = "incident"
    object: str | None = None


def client_command(*, writes: bool = False) -> Callable[[F], F]:
    """Gives a command the options of a client, ``--json``, and an open Client as its first argument."""

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def command(socket: Path | None, config: Path | None, operator: str = "", **arguments: Any) -> Any:
            from meshnode.client import Client

            with Client(str(_find_socket(socket, config)), operator=operator) as client:
                return function(client, **arguments)

        wrapped: Any = json_option(command)
        if writes:
            wrapped = click.option(
                "--operator",
                envvar="MESHNODE_OPERATOR",
                default="",
                metavar="NAME",
                help="In whose name; MESHNODE_OPERATOR. The daemon adds the user id.",
            )(wrapped)
        wrapped = click.option(
            "--config",
            envvar="MESHNODE_CONFIG",
            type=click.Path(readable=False, path_type=Path),
            metavar="FILE",
            help="Configuration that names the socket; MESHNODE_CONFIG.",
        )(wrapped)
        wrapped = click.option(
            "--socket",
            envvar="MESHNODE_SOCKET",
            type=click.Path(readable=False, path_type=Path),
            metavar="PATH",
            help="Socket of the daemon; MESHNODE_SOCKET.",
        )(wrapped)
        result: F = wrapped
        return result

    return decorate


def find_incident(client: Client, text: str) -> str:
    """The id of the incident whose id begins with this text."""
    if _is_whole_id(text):
        return text
    return one_of([item.id for item in client.incidents()], text, "incident", "meshnode incident list")


def find_object(client: Client, incident: str, text: str | None) -> ObjectName:
    """``persons/1a2b`` as collection and id; the incident itself when there is no text."""
    if text is None:
        return ObjectName()
    collection, slash, prefix = text.partition("/")
    if not slash or not collection or not prefix:
        raise click.UsageError(f"{text!r} does not name an object: write COLLECTION/ID, like persons/1a2b3c4d")
    if _is_whole_id(prefix):
        return ObjectName(collection, prefix)
    ids = [item.id for item in client.collection(incident, collection)]
    return ObjectName(collection, one_of(ids, prefix, f"object in {collection}", "meshnode incident show"))


def read_field(client: Client, incident: str, name: ObjectName, field: str) -> FieldView | None:
    """What a field holds now; None when it holds nothing."""
    if name.object is None:
        return client.incident(incident).fields.get(field)
    return client.object(incident, name.collection, name.object).fields.get(field)


def find_value(values: Sequence[ValueView], text: str) -> ValueView:
    """The value with this id, which may be written short: the first digits of the log, then ``.seq.op``."""
    log, _, position = text.partition(".")
    found = [value for value in values if _matches(value.id, log, position)]
    if len(found) == 1:
        return found[0]
    shown = ", ".join(output.short(value.id) for value in values) or "none"
    if found:
        raise RefusedError("ambiguous-id", f"{text!r} begins more than one value id", f"write more digits of: {shown}")
    raise RefusedError(
        "unknown-value",
        f"the field shows no value {text!r}: it was replaced meanwhile, or is of another field",
        f"look at what it shows now: {shown}",
    )


def value_id(values: Sequence[ValueView], text: str) -> str:
    """A whole value id as it is: the daemon knows those that were replaced meanwhile too. A short one is completed."""
    try:
        return parse_dot_untrusted(text).text
    except UntrustedInputError:
        return find_value(values, text).id


def one_of(ids: Sequence[str], prefix: str, what: str, listing: str) -> str:
    """The one id that begins like this. RefusedError ``ambiguous-id`` or ``unknown-<what>``."""
    found = [item for item in ids if item.startswith(prefix.lower())]
    if len(found) == 1:
        return found[0]
    code = "ambiguous-id" if found else f"unknown-{what.split()[0]}"
    if found:
        reason, action = f"begins the id of {len(found)} of them", f"copy more of the id from: {listing}"
    else:
        reason, action = "begins the id of none", f"see what there is: {listing}"
    raise RefusedError(code, f"{what}: {prefix!r} {reason}", action)


def _find_socket(socket: Path | None, config: Path | None) -> Path:
    source = click.get_current_context().get_parameter_source
    config_is_nearer = (
        source("config") is ParameterSource.COMMANDLINE and source("socket") is not ParameterSource.COMMANDLINE
    )
    if socket is not None and not config_is_nearer:
        return socket
    if config is None and SYSTEM_CONFIG.is_file():
        config = SYSTEM_CONFIG
    if config is None:
        return DEFAULT_SOCKET
    from meshnode.config import load  # costs as much as the rest of a client command

    return load(config).socket


def _is_whole_id(text: str) -> bool:
    return len(text) == ID_DIGITS and all(digit in "0123456789abcdef" for digit in text)


def _matches(identifier: str, log: str, position: str) -> bool:
    own_log, _, own_position = identifier.partition(".")
    return own_log.startswith(log.lower()) and position in ("", own_position)
