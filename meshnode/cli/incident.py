"""``meshnode incident``: read and change incidents through the daemon."""

from __future__ import annotations

from meshnode.cli.base import LazyGroup

_READ = "meshnode.cli.incident_read"
_WRITE = "meshnode.cli.incident_write"

incident = LazyGroup(
    "incident",
    help="Open, read and change incidents. Ids may be shortened as long as they are unambiguous.",
    modules={
        "open": ("meshnode.cli.incident_open", "open_command"),
        "list": (_READ, "list_command"),
        "show": (_READ, "show"),
        "history": (_READ, "history"),
        "watch": ("meshnode.cli.incident_watch", "watch"),
        "conflicts": (_READ, "conflicts"),
        "members": (_READ, "members"),
        "attachments": (_READ, "attachments"),
        "attachment": (_READ, "attachment"),
        "set": (_WRITE, "set_command"),
        "resolve": (_WRITE, "resolve"),
        "add": (_WRITE, "add"),
        "add-to": (_WRITE, "add_to"),
        "remove-from": (_WRITE, "remove_from"),
        "delete": (_WRITE, "delete"),
        "log": (_WRITE, "log"),
        "attach": (_WRITE, "attach"),
        "share": (_WRITE, "share"),
    },
)
