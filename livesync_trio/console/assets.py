"""Style sheets, scripts and the like: read once, compressed once, and named by what they hold."""

import gzip
import hashlib
import mimetypes
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import attrs
from quart import Response, request

FOLDER: Final = Path(__file__).parent / "static"
_KEPT: Final = "public, max-age=31536000, immutable"


@attrs.frozen
class Asset:
    """One file.

    Attributes:
        body: what it holds.
        compressed: the same by gzip.
        content_type: for the answer.
        version: changes with its content, and stands in its URL, so that browsers may keep it for ever.
    """

    body: bytes
    compressed: bytes
    content_type: str
    version: str

    def response(self) -> Response:
        """The answer to a request for it."""
        small = "gzip" in request.headers.get("accept-encoding", "")
        asked = request.args.get("v") == self.version
        response = Response(self.compressed if small else self.body, 200, content_type=self.content_type)
        response.headers["cache-control"] = _KEPT if asked else "no-cache"
        response.headers["vary"] = "accept-encoding"
        if small:
            response.headers["content-encoding"] = "gzip"
        return response


def read_assets() -> Mapping[str, Asset]:
    """Every asset by its path below `static`."""
    return {
        str(path.relative_to(FOLDER)): _asset(path)
        for path in sorted(FOLDER.rglob("*"))
        if path.suffix in (".css", ".js", ".svg")
    }


def _asset(path: Path) -> Asset:
    body = path.read_bytes()
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    if kind.startswith("text/"):
        kind += "; charset=utf-8"
    return Asset(body, gzip.compress(body, mtime=0), kind, hashlib.sha256(body).hexdigest()[:12])
