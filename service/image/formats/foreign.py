"""Says what data is that is no supported image, and what to do about it, for ``inspection``.

The first 4 KiB decide; nothing of them is part of the answer. Signatures are those of the formats' specifications.
"""

from __future__ import annotations

import binascii
import re
from typing import Final

_HEAD_BYTES: Final = 4096
_CONVERT: Final = "send it as JPEG or PNG"
_PICK: Final = "send one picture of it as JPEG or PNG"
_ITSELF: Final = "send the image itself"

#: The beginnings of images, to be found where they should not be.
_IMAGE: Final = (
    rb"(?:\xff\xd8\xff[\xc0-\xfe]|\x89PNG\r\n\x1a\n|GIF8[79]a|RIFF....WEBP|II\*\0|MM\0\*|BM.{12}[\x0c-\x7c]\0\0\0"
    rb"|\0\0..ftyp(?:avi|he|mi))"
)

#: What to do ─► what it is ─► how it begins. The first row that matches counts.
_FILES: Final[dict[str, dict[str, bytes]]] = {
    _CONVERT: {
        "a HEIF image of a rare kind": rb"\0\0..ftyp(?:miaf|avc[is])",
        "a JPEG XL image": rb"\xff\x0a|\0\0\0\x0cJXL |\0\0..ftypjxl",
        "a JPEG 2000 image": rb"\xffO\xffQ|\0\0\0\x0cjP  |\0\0..ftypjp",
        "a camera raw photo": rb"\0\0..ftypcrx|FUJIFILMCCD|FOVb|II(?:RO|RS|U\0|\x1a\0\0\0HEAP)|MMOR|\0MRM",
        "a Photoshop document": rb"8BPS\0[\x01\x02]",
        "an icon or a cursor": rb"\0\0[\x01\x02]\0[^\0]\0|icns\0|RIFF....ACON",
        "a TGA image": rb"\0\0[\x02\x03\n\x0b]\0{9}.{4}[\x08\x10\x18\x20][\0\x08\x20\x28]",
        "a PNM image": rb"P[1-7]\s+(?:#[^\n]*\n\s*)*(?:\d|WIDTH)|P[Ff]\s\d+\s\d",
        "an OpenEXR or Radiance HDR image": rb"v/1\x01|#\?R(?:ADIANC|GB)E",
        "a QOI, FLIF or DDS image": rb"qoif\0|FLIF[1-o]|DDS \x7c",
        "an image of a rare kind": rb"BM.{4}\0{4}|MM\0\+|II\xbc\x01|.{128}DICM|gimp xcf|[\x8a\x8b][JM]NG",
    },
    _PICK: {
        "a video": rb"\0\0..ftyp(?!M4[AB])|\0.{3}(?:mdat|moov|moof|styp|wide|free|skip|pnot)|\x1aE\xdf\xa3|FLV\x01"
        rb"|RIFF....AVI |\x30\x26\xb2\x75|\0\0\0?\x01[\x09\x27\x40\x67\xb3\xba]|G.{187}G.{187}G|.{4}G.{191}G.{191}G",
        "an old Office file or Thumbs.db": rb"\xd0\xcf\x11\xe0",
    },
    "send it uncompressed": {
        "gzip data": rb"\x1f\x8b",
        "bzip2, xz or Zstandard data": rb"BZh\d[1\x17]|\xfd7zXZ\0|\x28\xb5\x2f\xfd",
    },
    "send the images in it": {
        "a zip archive (as Office files are)": rb"PK(?:\x03\x04|\x05\x06|\x07\x08)",
        "an archive (7z, RAR or tar)": rb"7z\xbc\xaf|Rar!\x1a|.{257}ustar",
    },
    "send the file that it stands for": {
        "a file of macOS beside a photo (its name begins with a dot)": rb"\0\x05\x16[\0\x07]|\0\0\0\x01Bud1",
        "a Git LFS pointer": rb"version https://git-lfs",
    },
    "send the original": {"a file that lost its content (all bytes are 0 or 255)": rb"(?:\0+|\xff{16,})\Z"},
    "send it unchanged, as binary": {
        "an image that was damaged by a transfer as text": rb"(?:\xef\xbb\xbf|[\s\0]){1,64}" + _IMAGE +
        # U+FFFD or "?" for a byte, a byte widened to two, NUL and line breaks lost or doubled.
        rb"|(?:[^ -~]{1,3}|\?)PNG[\r\n\x1a]|RIFF.{1,12}?WEBP|(?:\xef\xbf\xbd){2}|\xc3\xbf\xc3\x98"
        rb"|(?!.{0,9}\xff\xd8).{2,16}?(?:JFIF|Exif)\0",
    },
    _ITSELF: {
        "sound": rb"ID3|\xff[\xe2\xe3\xf0-\xf3\xf8-\xfb][\x10-\xeb]|RIFF....WAVE|OggS|fLaC|MThd|\0\0..ftypM4",
        "a program or its data": rb"\x7fELF|MZ.\0|\x93NUMPY|\x80[\x02-\x05]|\x89HDF|PAR1|SQLite f|bplist0",
    },
}  # fmt: skip

_PROLOGUE: Final = rb"(?:<\?.*?\?>|<!--.*?-->|\s)*+"
#: The same for text, behind a byte order mark and white space, in any case.
_TEXTS: Final[dict[str, dict[str, bytes]]] = {
    _CONVERT: {"an SVG drawing": _PROLOGUE + rb"<(?:!doctype\s+|\w+:)?svg\b"},
    _PICK: {"a PDF document": rb"%PDF-", "a PostScript file": rb"\x04?%!PS|\xc5\xd0\xd3\xc6"},
    "decode it and send the bytes": {"a data URL": rb"[\"'(]?(?:data:[\w/.+;=-]{0,200},|[\w/;]*base64,)"},
    f"{_ITSELF}, the service fetches nothing": {"a web address": rb"[\"'(<]?(?:[a-z][a-z\d+.-]{1,20}://|blob:|www\.)"},
    _ITSELF: {
        "what a program prints for bytes or an object": rb"b[\"'](?:\\x|GIF8|RIFF|BM|II|MM)|\[object |\[B@"
        rb"|<(?:\w+\.[\w.]+ |Buffer |FileStorage|Response )|\[?\s*(?:255,\s*216,|137,\s*80,\s*78,)",
        "a web page": _PROLOGUE + rb"<(?:!doctype\s+html|html|head|body|title|meta|script|style|h\d|p|br|b|div|img)\b",
        "an XML document": rb"<(?:[?!]|[a-z_][\w:.-]*[\s/>])",
    },
    f"{_ITSELF}, decoded if it is base64": {
        "JSON": rb"[{\[](?=\s*[\"'{\[])(?=.*?(?:b64|base64|[\"'](?:[a-z\d+/\\_-]{100}|image|instance|input|data)))"
    },
    f"{_ITSELF}, or a multipart form": {
        "JSON": rb"[{\[]\s*(?:[\"'{}\[\]\d-]|null|true|false)",
        "a URL-encoded form": rb"(?:[\w.%\[\]-]{1,64}=)?(?:%[\da-f]{2}){2}|[\w.%\[\]-]{1,64}=[^=\s]",
    },
    "send it with Content-Type: multipart/form-data and its boundary": {
        "a multipart form": rb"--[^\r\n]{1,200}\r?\ncontent-"
    },
    "send the content of the file": {
        "the name of a file": rb"@?[^\r\n\0<>]{1,300}\.(?:jp\w+|jfif|png|webp|gif|bmp|tiff?|hei[cf]|avif)[\"']?\s*\Z"
        rb"|@?(?:~?/|\.\.?/|\w:[\\/]|\\\\)[^\r\n\0]{1,300}\s*\Z"
    },
    "send the image alone, as binary": {"an image with other bytes in front": rb"(?-i:.{0,1024}?" + _IMAGE + rb")"},
    # UTF-8 whose last character may be cut off, without control characters.
    "send an image": {
        "text": rb"(?:[\t-\r\x1b -~]|[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3})++"
        rb"[\xc2-\xf4]?[\x80-\xbf]{0,2}\Z"
    },
}  # fmt: skip

_KINDS: Final = tuple(
    (table is _TEXTS, re.compile(pattern, flags), f"this is {what}; {remedy}")
    for table, flags in ((_FILES, re.DOTALL), (_TEXTS, re.DOTALL | re.IGNORECASE))
    for remedy, kinds in table.items()
    for what, pattern in kinds.items()
)
_BEFORE_TEXT: Final = re.compile(rb"(?:\xef\xbb\xbf|\s)*+")
_UTF16: Final = {"utf-16": rb"\xff\xfe|\xfe\xff", "utf-16-le": rb"([^\0]\0){2}", "utf-16-be": rb"(\0[^\0]){2}"}


def describe_foreign(data: bytes) -> str:
    """What ``data``, which does not begin like a supported image, is and what to do; a sentence without full stop."""
    head = data[:_HEAD_BYTES]
    encodings = (encoding for encoding, start in _UTF16.items() if re.match(start, head))
    for view in (head, *(head.decode(encoding, "replace").encode() for encoding in encodings)):
        if re.match(_IMAGE, _decoded(view), re.DOTALL):
            return "this is an image as base64 or hexadecimal text; decode it and send the bytes"
        start = _BEFORE_TEXT.match(view)
        for is_text, pattern, sentence in _KINDS:
            if pattern.match(view, start.end() if is_text and start else 0):
                return sentence
    return "this is not a supported image; send JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF (judged by its content)"


def _decoded(text: bytes) -> bytes:
    """The first bytes for which hexadecimal or base64 (in either alphabet) stands; empty for anything else."""
    letters = re.sub(rb"\\[nrx]|[\s\"'\\]", b"", text[:128]).translate(bytes.maketrans(b"-_", b"+/"))[:40]
    if digits := re.fullmatch(rb"(?:0x)?((?:[\da-fA-F]{2}){16,20})", letters):
        return binascii.unhexlify(digits[1])
    return binascii.a2b_base64(letters[:24]) if re.match(rb"[A-Za-z\d+/]{24}", letters) else b""
