"""Handles of TF-Hub and Kaggle Models: found in a local cache, else downloaded by the optional package kagglehub.

TF-Hub's own site was given up for Kaggle Models, where the same modules live under other names; a cache folder of the
library tensorflow_hub (environment variable TFHUB_CACHE_DIR) names every unpacked module by the SHA-1 of its handle.
"""

import hashlib
import importlib.util
import os
import re
import tempfile
from pathlib import Path

from bertune.errors import InputError

_TFHUB = re.compile(r"https?://(?:www\.)?tfhub\.dev/([\w.-]+(?:/[\w.-]+)*?)(?:/(\d+))?/?(?:\?.*)?")
_KAGGLE_PAGE = re.compile(
    r"(?:https?://)?(?:www\.)?kaggle\.com/models/([\w-]+)/([\w-]+)/(?:frameworks/)?([\w-]+)/"
    r"(?:variations/)?([\w-]+)(?:/(?:versions/)?(\d+))?/?(?:\?.*)?"
)
_KAGGLE_HANDLE = re.compile(r"([\w-]+)/([\w-]+)/(tensorflow[12])/([\w-]+)(?:/(\d+))?", re.IGNORECASE)
_FRAMEWORKS = {"tensorflow1": "tensorFlow1", "tensorflow2": "tensorFlow2"}


def is_handle(source: str) -> bool:
    """Whether a source is written like a handle of TF-Hub or Kaggle Models."""
    return any(pattern.fullmatch(source) for pattern in (_TFHUB, _KAGGLE_PAGE, _KAGGLE_HANDLE))


def resolve(source: str) -> Path:
    """The folder of an unpacked module.

    Looked for in TFHUB_CACHE_DIR (tensorflow_hub's own default without it): `SHA-1 of the handle`, and folders named
    like the handle (`google/bert_uncased_L-12_H-768_A-12/1`). Then kagglehub is asked, which keeps a cache of its own.

    Raises:
        InputError: not cached and kagglehub is not installed, or it cannot download the module.
    """
    cache = Path(os.environ.get("TFHUB_CACHE_DIR") or Path(tempfile.gettempdir()) / "tfhub_modules").expanduser()
    for name in _cache_names(source):
        if (cache / name / "saved_model.pb").is_file():
            return cache / name
    handle = kaggle_handle(source)
    if importlib.util.find_spec("kagglehub") is None:
        raise InputError(
            f"{source}: not in {cache} (environment variable TFHUB_CACHE_DIR). Either install kagglehub, which "
            f"downloads it: pip install 'bertune[kaggle]'; or download and unpack it by hand into "
            f"{cache / _cache_names(source)[0]}"
        )
    return _download(source, handle)


def _cache_names(source: str) -> list[str]:
    """Names that a module's folder may have in a cache, the library's own first."""
    spellings = [source, source.rstrip("/"), source.partition("?")[0].rstrip("/")]
    if match := _TFHUB.fullmatch(source):
        spellings.append(f"https://tfhub.dev/{match[1]}" + (f"/{match[2]}" if match[2] else ""))
    names = [hashlib.sha1(spelling.encode(), usedforsecurity=False).hexdigest() for spelling in spellings]
    readable = f"{match[1]}/{match[2] or ''}".rstrip("/") if match else kaggle_handle(source)
    return [*dict.fromkeys(names), *([readable] if ".." not in readable.split("/") else [])]


def kaggle_handle(source: str) -> str:
    """Kaggle's handle `owner/model/framework/variation[/version]` for a handle in any of the forms.

    TF-Hub's BERT modules moved by rule: `google/bert_uncased_L-12_H-768_A-12/1` became
    `google/bert/tensorFlow1/uncased-l-12-h-768-a-12/1`, `tensorflow/bert_en_uncased_L-12_H-768_A-12/4`
    `tensorflow/bert/tensorFlow2/en-uncased-l-12-h-768-a-12/4`, and `tensorflow/small_bert/bert_en_…`
    `tensorflow/bert/tensorFlow2/bert-en-…`.

    Raises:
        InputError: a module of TF-Hub whose name on Kaggle no rule tells.
    """
    for pattern in (_KAGGLE_PAGE, _KAGGLE_HANDLE):
        if match := pattern.fullmatch(source):
            owner, model, framework, variation, version = match.groups()
            parts = [owner, model, _FRAMEWORKS.get(framework.lower(), framework), variation, version]
            return "/".join(part for part in parts if part)
    match = _TFHUB.fullmatch(source)
    path, version = (match[1], match[2]) if match else (source, None)
    owner, _, name = path.partition("/")
    framework = {"google": "tensorFlow1", "tensorflow": "tensorFlow2"}.get(owner)
    kind, _, small = name.partition("/")
    if framework is None or not name.startswith(("bert_", "small_bert/bert_")):
        raise InputError(
            f"{source}: this module's name on Kaggle is not known; look it up on https://www.kaggle.com/models and "
            "give it as owner/model/tensorFlow1/variation/version"
        )
    variation = (small or kind.removeprefix("bert_")).lower().replace("_", "-")
    return "/".join(part for part in (owner, "bert", framework, variation, version) if part)


def _download(source: str, handle: str) -> Path:
    import kagglehub  # type: ignore[import-not-found, unused-ignore]

    try:
        return Path(str(kagglehub.model_download(handle)))
    except Exception as error:  # of the package, its HTTP library, the disk: no common kind
        reason = (str(error).strip().splitlines() or [""])[0]
        raise InputError(
            f"{source}: kagglehub cannot download {handle} ({type(error).__name__}: {reason}). Is there a network, and "
            "is the name right? Some models need the terms accepted on their page and KAGGLE_API_TOKEN set."
        ) from error
