"""Static files: style sheets, scripts, images."""

import os
from typing import Any

from tornado.web import HTTPError, StaticFileHandler

from .handler import Handler


class StaticFiles(StaticFileHandler, Handler):
    """Serves the files of a folder. ``Application(static_path=...)`` does so at ``/static/``.

    For further folders: ``Route("/manuals/{path*}", StaticFiles, path="/srv/manuals")``.

    ``self.static_url("style.css")`` in a handler, and ``static_url`` in a template, return a URL
    with the version of the file, so that browsers keep it for years. At any other URL they ask
    each time whether the file has changed.
    """

    def head(self, *args: str, **kwargs: str) -> Any:
        # Not that of `Handler`, which would read the file.
        return super().head(*args, **kwargs)

    def compute_etag(self) -> str | None:
        # Tornado keeps the hash of a file in memory, also when the file has changed.
        if self.absolute_path is None:
            return None
        status = os.stat(self.absolute_path)
        return f'"{status.st_mtime_ns:x}-{status.st_size:x}"'

    def validate_absolute_path(self, root: str, absolute_path: str) -> str | None:
        try:
            return super().validate_absolute_path(root, absolute_path)
        except ValueError:  # a null byte
            raise HTTPError(404) from None

    def set_extra_headers(self, path: str) -> None:
        if "Cache-Control" not in self._headers:
            self.set_header("Cache-Control", "no-cache")
