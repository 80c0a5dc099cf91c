"""CAP 1.2 in: a file from outside becomes the changes that open an incident.

    hostile bytes --cap_xml--> valid element tree --cap_rules--> Alert --cap_mapping--> changes --> CapIncident

This runs in the client process, which holds no key and no store; the daemon sees only typed changes, which it checks
like any others, and the original as an attachment that it does not look into (decision 0040). The original is kept
byte for byte, so nothing is lost by what the mapping leaves out, and the notes say what that was.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

from meshnode.core.events import Attachment, Change
from meshnode.core.keys import RandomBytes
from meshnode.interchange.cap_mapping import incident_kind, map_alert
from meshnode.interchange.cap_rules import read_alert
from meshnode.interchange.cap_xml import parse_cap_xml_untrusted

MEDIA_TYPE = "application/cap+xml"
NOTES_MAX = 100
"""A bent alert gives a handful; a hostile one could give 50,000."""
NAME_BYTES_MAX = 200
"""Of the attachment's name: file systems allow 255, and somebody may add a suffix."""
BATCH_CHANGES_MAX = 256
"""What the daemon takes in one request, and what one entry holds."""
BATCH_BYTES_MAX = 512 * 1024
"""A request has at most 2 MiB, and the original as base64 may take 1.34 MiB of the first one."""
_CHANGE_OVERHEAD_BYTES = 160
"""Kind, collection, object id, field name and punctuation of one change as JSON."""


@dataclass(frozen=True, slots=True)
class CapIncident:
    """An incident that is ready to be opened."""

    kind: str
    """``man-hunt``, ``public-protection``, ``cbrn-e`` or ``other``."""
    changes: tuple[Change, ...]
    """In order: an object's ``create`` comes before its fields. There may be thousands; see :meth:`batches`."""
    attachments: tuple[Attachment, ...]
    """The original as it came."""
    notes: tuple[str, ...]
    """What could not be mapped exactly, and where the sender bent the standard, in words for the operator."""

    def batches(self, limit: int = BATCH_CHANGES_MAX, bytes_max: int = BATCH_BYTES_MAX) -> Iterator[tuple[Change, ...]]:
        """The changes in order, in requests of at most ``limit`` changes and about ``bytes_max`` bytes of JSON.

        Send them one after the other: the first opens the incident, with the attachment; the others change it. A
        single change larger than ``bytes_max`` still gets a batch of its own.
        """
        if limit < 1:
            raise ValueError("a batch holds at least one change")
        batch: list[Change] = []
        size_bytes = 0
        for change in self.changes:
            change_bytes = _CHANGE_OVERHEAD_BYTES + len(json.dumps(change.value, ensure_ascii=False).encode())
            if batch and (len(batch) == limit or size_bytes + change_bytes > bytes_max):
                yield tuple(batch)
                batch, size_bytes = [], 0
            batch.append(change)
            size_bytes += change_bytes
        if batch:
            yield tuple(batch)


def read_cap_untrusted(
    data: bytes, name: str, *, language: str = "en", random_bytes: RandomBytes = os.urandom
) -> CapIncident:
    """The incident that a CAP 1.2 file describes. The only door for CAP; call it in the client, never in the daemon.

    ``name`` is the file's name or path and names the attachment. ``language`` chooses the info block whose headline
    becomes the title: the same tag, else the same primary language, else the first block. ``random_bytes`` chooses
    the ids of new objects. Raises UntrustedInputError with a ``cap-*`` code, the line and what is wrong; nothing else.
    """
    alert, bent = read_alert(parse_cap_xml_untrusted(data))
    changes, unmapped = map_alert(alert, language, random_bytes)
    notes = list(dict.fromkeys((*bent, *unmapped)))
    if len(notes) > NOTES_MAX:
        notes = [*notes[:NOTES_MAX], f"and {len(notes) - NOTES_MAX} notes more"]
    return CapIncident(
        kind=incident_kind(alert),
        changes=changes,
        attachments=(Attachment(_attachment_name(name), MEDIA_TYPE, data),),
        notes=tuple(notes),
    )


def _attachment_name(name: str) -> str:
    """The last part of a path, printable and short; file names come from outside too."""
    last = re.split(r"[/\\]", name)[-1]
    printable = "".join(character for character in last if character.isprintable()).strip(" .")
    encoded = printable.encode("utf-8", "ignore")[-NAME_BYTES_MAX:]
    return encoded.decode("utf-8", "ignore") or "alert.cap"
