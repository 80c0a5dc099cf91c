"""Armour: a small text form for keys, requests and certificates that people carry by mail, stick and hand.

    -----BEGIN MESHNODE DEVICE REQUEST-----
    gljKAW...            canonical base64, 64 characters a line
    =3f9c01d2a4b57e60    first 8 bytes of a hash over the label and the content
    -----END MESHNODE DEVICE REQUEST-----

The label says what it is, so that a certificate handed in where a request is due is named as such. The checksum finds
a line lost in a mail; it protects against accidents, not against people (signatures do that). Text around the armour
is not allowed: a file is one thing.
"""

from __future__ import annotations

import base64
import binascii
import re

from meshnode.core import keys
from meshnode.errors import UntrustedInputError

FILE_BYTES_MAX = 64 * 1024
"""The largest thing in armour is a bundle of about 4 KiB; more than this is not ours and is not read."""

_CHECKSUM_BYTES = 8
_LINE_CHARACTERS = 64
_FORM = re.compile(
    r"-----BEGIN MESHNODE (?P<label>[A-Z ]{1,40})-----\n"
    r"(?P<body>(?:[A-Za-z0-9+/=]{1,76}\n)*)"
    r"=(?P<checksum>[0-9a-f]{16})\n"
    r"-----END MESHNODE (?P=label)-----\n*\Z"
)


def encode(label: str, content: bytes) -> bytes:
    """The armoured text, as ASCII bytes with a newline at the end."""
    text = base64.b64encode(content).decode("ascii")
    lines = [text[at : at + _LINE_CHARACTERS] for at in range(0, len(text), _LINE_CHARACTERS)]
    head, tail = f"-----BEGIN MESHNODE {label}-----", f"-----END MESHNODE {label}-----"
    return "\n".join([head, *lines, f"={_checksum(label, content)}", tail, ""]).encode("ascii")


def decode_untrusted(data: bytes, label: str) -> bytes:
    """The content. Raises UntrustedInputError ``armour-too-large``, ``armour-malformed``, ``armour-wrong-kind`` or
    ``armour-damaged``; none of them repeats what was in the file."""
    if len(data) > FILE_BYTES_MAX:
        raise UntrustedInputError(
            "armour-too-large", f"the file is larger than {FILE_BYTES_MAX} bytes", "check that it is the right file"
        )
    try:
        text = data.decode("ascii").replace("\r\n", "\n").lstrip()
    except UnicodeDecodeError:
        text = ""
    found = _FORM.match(text)
    if found is None:
        raise UntrustedInputError(
            "armour-malformed",
            f"this is not a whole MESHNODE {label} file",
            "check that it is the right file; if it was sent as mail, send it again as an attachment",
        )
    if found["label"] != label:
        raise UntrustedInputError(
            "armour-wrong-kind",
            f"the file holds a MESHNODE {found['label']} where a {label} is expected",
            "check that it is the right file",
        )
    try:
        content = base64.b64decode(found["body"].replace("\n", ""), validate=True)
    except binascii.Error:
        content = b""
    if _checksum(label, content) != found["checksum"]:
        raise UntrustedInputError(
            "armour-damaged", f"the checksum of the MESHNODE {label} does not match", "copy the file again"
        )
    return content


def _checksum(label: str, content: bytes) -> str:
    return keys.digest("armour", label.encode("ascii"), b"\0", content)[:_CHECKSUM_BYTES].hex()
