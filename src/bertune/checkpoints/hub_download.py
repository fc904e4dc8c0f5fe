"""Large files of the Hub, taken up again by a later process where an earlier one was killed.

huggingface_hub resumes within a process; what a process leaves behind it gives up. So a large file is first brought
here into the library's cache, under the name that the library looks for: `blobs/ETAG`, as it documents its cache. Files
in Xet storage stay the library's, which keeps parts of them in a cache of its own.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from bertune.data.rows import file_sha256
from bertune.errors import InputError

LARGE = 8 << 20
"""Bytes below which a file is quicker fetched anew."""
_SHA256 = re.compile(r"[0-9a-f]{64}")
_ETAG = re.compile(r"[\w-]{8,128}")


def download(repo: str, commit: str, files: Sequence[str]) -> None:
    """Complete the large ones of these files in the cache.

    Errors are those of huggingface_hub and its HTTP library; what had arrived stays as `blobs/ETAG.bertune.incomplete`.

    Raises:
        InputError: a file arrived with another SHA-256 than the Hub tells; it is removed.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import (  # type: ignore[attr-defined, unused-ignore]
        WeakFileLock,
        build_hf_headers,
    )

    blobs = Path(HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}" / "blobs"
    for name in files:
        url = hf_hub_url(repo, name, revision=commit)
        metadata = get_hf_file_metadata(url)
        etag, size = metadata.etag, metadata.size
        in_xet = getattr(metadata, "xet_file_data", None) is not None
        if not etag or not _ETAG.fullmatch(etag) or size is None or size < LARGE or in_xet:
            continue
        whole, partial = blobs / etag, blobs / f"{etag}.bertune.incomplete"
        blobs.mkdir(parents=True, exist_ok=True)
        with WeakFileLock(blobs / f"{etag}.bertune.lock"):
            if whole.exists():
                continue
            same_host = urlsplit(metadata.location).netloc == urlsplit(url).netloc  # others get no token
            headers = build_hf_headers() if same_host else None
            with partial.open("ab") as file:
                if file.tell() > size:
                    file.truncate(0)
                http_get(metadata.location, file, resume_size=file.tell(), headers=headers, expected_size=size)
            _compare(f"{repo}, {name}", partial, etag)
            partial.replace(whole)
        (blobs / f"{etag}.bertune.lock").unlink(missing_ok=True)


def _compare(what: str, partial: Path, etag: str) -> None:
    if not _SHA256.fullmatch(etag):
        return
    if (found := file_sha256(partial)) != etag:
        partial.unlink()
        raise InputError(f"{what}: what arrived has SHA-256 {found}, expected {etag}; it is removed, try again")
