"""Content that is the same for everyone: compressed once, and asked for again with its ETag."""

import gzip
import hashlib
import mimetypes
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from aiohttp import ETag, web

from billing_stream.web.envelope import FILE_HEADERS

# Small ones would get no shorter.
GZIP_MIN_BYTES = 1_000


class StaticContent:
    """Bytes with their type; read-only."""

    def __init__(self, body: bytes, content_type: str) -> None:
        self._body = body
        self._type = content_type
        self._etag = hashlib.sha256(body).hexdigest()[:32]
        # Not per request: that would take the time of the lanes.
        self._gzipped = gzip.compress(body, mtime=0) if len(body) >= GZIP_MIN_BYTES else None

    def response(
        self, request: web.BaseRequest, headers: Mapping[str, str] = FILE_HEADERS
    ) -> web.Response:
        """200 with the content, gzip where the client takes it; 304 when it has it already."""
        if any(tag.value in (self._etag, "*") for tag in request.if_none_match or ()):
            response = web.Response(status=304, headers=headers)
        else:
            zipped = self._gzipped if _takes_gzip(request) else None
            response = web.Response(
                body=zipped or self._body, content_type=self._type, headers=headers
            )
            if zipped is not None:
                response.headers["Content-Encoding"] = "gzip"
        response.headers["Vary"] = "Accept-Encoding"
        # Weak: the same content in two encodings.
        response.etag = ETag(self._etag, is_weak=True)
        return response


@cache
def content_of(path: Path) -> StaticContent:
    """A file of this program. Raises FileNotFoundError."""
    kind, _ = mimetypes.guess_type(path.name)
    return StaticContent(path.read_bytes(), kind or "application/octet-stream")


def _takes_gzip(request: web.BaseRequest) -> bool:
    for offer in request.headers.get("Accept-Encoding", "").split(","):
        name, _, weight = offer.replace(" ", "").lower().partition(";q=")
        if name == "gzip":
            return weight.strip("0.") != "" or weight == ""
    return False
