"""Fetching one file from the first of several mirrors that delivers it whole."""

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pooch
import requests
from requests.adapters import HTTPAdapter
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from urllib3.util.retry import Retry

from cifar_lightning.errors import UserError

log = logging.getLogger(__name__)

_CONNECT_SECONDS, _READ_SECONDS = 5.0, 15.0
# A mirror that stays below this rate for this long is given up: 170 MB would take two hours.
_SLOWEST_BYTES_PER_SECOND, _SLOW_SECONDS = 25_000, 20.0
_ATTEMPTS = 2
_BACKOFF_SECONDS = 0.5


class _MirrorError(Exception):
    """Why a mirror did not deliver, in a few words."""


def fetch(urls: Sequence[str], target: Path, md5: str) -> None:
    """Download ``target``: a temporary file beside it, checked, then moved into place.

    Mirrors are tried in order, always over https with certificates checked.

    Raises:
        UserError: no mirror delivered the file; lists each with its reason.
    """
    pooch.get_logger().setLevel(logging.WARNING)  # it repeats what is said here
    reasons = []
    for url in urls:
        log.info("Downloading %s from %s", target.name, _host(url))
        try:
            _from_mirror(url, target, md5)
        except _MirrorError as failed:
            log.warning("%s: %s", _host(url), failed)
            reasons.append(f"  {url}: {failed}")
        else:
            return
    raise UserError("\n".join([f"{target.name} could not be downloaded:", *reasons]))


def _from_mirror(url: str, target: Path, md5: str) -> None:
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            pooch.retrieve(url, f"md5:{md5}", target.name, target.parent, downloader=_download)
            return
        except (requests.exceptions.ChunkedEncodingError, requests.exceptions.ContentDecodingError):
            # only what broke off in the middle is worth a second try at the same address
            if attempt == _ATTEMPTS:
                raise _MirrorError("the connection broke off half-way") from None
            log.warning("%s: the connection broke off, trying again", _host(url))
        except requests.exceptions.RequestException as error:
            raise _MirrorError(_reason(error)) from error
        except ValueError as error:  # pooch: the checksum differs; it has removed the file
            raise _MirrorError("what it sent is not the archive (wrong checksum)") from error


def _download(url: str, output_file: str, pooch: Any) -> None:
    """A downloader as pooch calls it: pooch's own follows redirects to plain http, and waits for
    ever on a server that trickles."""
    with requests.Session() as session, Path(output_file).open("wb") as file:
        session.adapters.pop("http://")
        session.max_redirects = 5
        retry = Retry(
            total=3, connect=0, read=0, status=2, redirect=5, backoff_factor=_BACKOFF_SECONDS,
            status_forcelist=[500, 502, 503, 504], raise_on_status=False,
        )  # fmt: skip
        session.mount("https://", HTTPAdapter(max_retries=retry))
        timeout = (_CONNECT_SECONDS, _READ_SECONDS)
        with session.get(url, stream=True, timeout=timeout) as response:
            response.raise_for_status()
            size = int(response.headers.get("content-length", 0)) or None
            with _progress_bar() as bar:
                task = bar.add_task(_host(url), total=size)
                received, window_bytes, window_start = 0, 0, time.monotonic()
                for chunk in response.iter_content(chunk_size=1 << 14):
                    file.write(chunk)
                    received += len(chunk)
                    bar.update(task, completed=received)
                    window_bytes += len(chunk)
                    elapsed = time.monotonic() - window_start
                    if elapsed > _SLOW_SECONDS:
                        if window_bytes / elapsed < _SLOWEST_BYTES_PER_SECOND:
                            raise requests.exceptions.Timeout(
                                f"too slow ({window_bytes / elapsed / 1000:.1f} kB/s)"
                            )
                        window_bytes, window_start = 0, time.monotonic()
            if size is not None and received < size:
                raise requests.exceptions.ChunkedEncodingError


def _progress_bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )


def _host(url: str) -> str:
    return urlsplit(url).netloc or url


def _reason(error: requests.exceptions.RequestException) -> str:
    text = str(error)
    if isinstance(error, requests.exceptions.HTTPError) and error.response is not None:
        return f"it answered {error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.exceptions.InvalidSchema):
        return "it is or leads to an address without https, which is refused"
    if isinstance(error, requests.exceptions.TooManyRedirects):
        return "it redirects in a circle"
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate cannot be trusted"
    if "too slow" in text:
        return text
    if isinstance(error, requests.exceptions.Timeout) or "timed out" in text:
        return "no answer (timed out)"
    if "NameResolution" in text or "resolve" in text:
        return "its name cannot be found (no network?)"
    if "refused" in text:
        return "the connection was refused"
    return f"{type(error).__name__}: {text}"
