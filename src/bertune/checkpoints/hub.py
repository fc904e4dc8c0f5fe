"""The Hugging Face Hub: a model's id becomes a folder in the local cache that holds what an encoder needs.

Downloading, resuming and the cache's layout are huggingface_hub's; which files are wanted, and what is said when there
is no network, no such model or no permission, is decided here.
"""

import contextlib
import errno
import logging
import re
import sys
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from bertune.checkpoints import huggingface, sentence_transformers
from bertune.checkpoints.hub_download import download
from bertune.errors import InputError
from bertune.files.json_files import parse_json
from bertune.files.text_files import small_file

logger = logging.getLogger(__name__)

_ID = re.compile(r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@(.+))?")
_REVISION = re.compile(r"[\w.][\w./-]*")
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""Best first; each may also be in shards, which `NAME.index.json` lists."""
_SMALL = (
    "config.json",
    "bert_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    *sentence_transformers.FILES,
)
_TOKENIZERS = (("tokenizer.json",), ("vocab.txt",), ("vocab.json", "merges.txt"))
"""Files that make a tokenizer, best first."""
_CONFIGS = ("config.json", "bert_config.json")
_TEXTS = (".json", ".txt")
_FILES = (".zip", ".tar", ".gz", ".tgz", ".ckpt", ".index")
"""Ends of names of files that are not there rather than of models on the Hub."""
_OWNERS = {
    "bert": "google-bert",
    "roberta": "FacebookAI",
    "xlm-roberta": "FacebookAI",
    "distilbert": "distilbert",
    "albert": "albert",
    "camembert": "almanach",
}
"""Who owns the models that were once named without an owner: bert-base-uncased is google-bert/bert-base-uncased."""
_OWNERLESS = re.compile(r"(xlm-roberta|distilbert|roberta|albert|camembert|bert)-(base|large|xlarge|xxlarge)[\w.-]*")


def parse_hub_id(source: str) -> tuple[str, str | None] | None:
    """Id and revision in a source `org/name`, `org/name@revision` or a well-known name without owner.

    Returns: None when the source is not written like one of these.
    """
    name, at, revision = source.partition("@")
    if match := _OWNERLESS.fullmatch(name):
        source = f"{_OWNERS[match[1]]}/{name}{at}{revision}"
    found = _ID.fullmatch(source)
    if found is None or (found[2] is not None and not _REVISION.fullmatch(found[2])):
        return None
    if found[1].endswith(_FILES):
        return None
    return found[1], found[2]


def fetch(repo: str, revision: str | None = None) -> Path:
    """A folder with a model's config, weights and tokenizer; what the cache holds already is not downloaded again.

    A download that breaks off is taken up again where it stopped, by another process too; a file enters the cache only
    once it is whole.
    Without network, or with HF_HUB_OFFLINE set, the cache's own copy is used.

    Args:
        repo: id on the Hub, as in `google-bert/bert-base-uncased`.
        revision: branch, tag or commit; None: the main branch.

    Raises:
        InputError: no such model or revision, no permission, no network and no whole copy, files that are no encoder.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.constants import HF_HUB_OFFLINE
    from huggingface_hub.errors import OfflineModeIsEnabled

    name = f"{repo}@{revision}" if revision else repo
    if HF_HUB_OFFLINE:
        return _cached(repo, revision, f"{name}: HF_HUB_OFFLINE is set, so the Hub is not asked")
    try:
        with _explained(name), _progress():
            info = HfApi().model_info(repo, revision=revision)
            files = [sibling.rfilename for sibling in info.siblings or ()]
            wanted = _wanted(name, files, lambda index: _shards(repo, revision, index))
            wanted = list(dict.fromkeys([*wanted, *_module_files(repo, revision, files)]))
            download(repo, info.sha or revision or "main", [file for file in wanted if not file.endswith(_TEXTS)])
            return Path(snapshot_download(repo, revision=revision, allow_patterns=wanted))
    except (_NoNetworkError, OfflineModeIsEnabled) as error:
        folder = _cached(repo, revision, str(error))
        logger.warning("%s; using the copy in %s", error, folder)
        return folder


_NOT_WRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS)


class _NoNetworkError(Exception):
    """The Hub cannot be reached or does not answer as it should; a cached copy may do."""


@contextlib.contextmanager
def _explained(name: str) -> Iterator[None]:
    """What the Hub and the library say, told for people."""
    from huggingface_hub import errors
    from huggingface_hub.constants import HF_HUB_CACHE

    login = "log in with `hf auth login`, or set HF_TOKEN"
    try:
        yield
    except InputError:
        raise
    except errors.GatedRepoError:
        raise InputError(f"{name}: this model is gated: ask for access on its page on the Hub, then {login}") from None
    except errors.RevisionNotFoundError:
        raise InputError(f"{name}: the Hub has this model, but no such branch, tag or commit") from None
    except errors.RepositoryNotFoundError:
        raise InputError(
            f"{name}: no such file or folder, and the Hub has no such model (or it is private: {login})"
        ) from None
    except errors.HFValidationError as error:
        raise InputError(f"{name}: not a legal id on the Hub: {error}") from None
    except errors.HfHubHTTPError as error:
        raise _NoNetworkError(f"{name}: the Hub answered {_first_line(error)}") from error
    except Exception as error:  # the HTTP library beneath (requests, httpx, …) has errors of its own in each version
        if isinstance(error, OSError) and error.errno in _NOT_WRITABLE:
            where = error.filename or HF_HUB_CACHE
            raise InputError(
                f"{name}: the download cannot be written to {where} ({error.strerror}); HF_HOME names another place"
            ) from error
        raise _NoNetworkError(f"{name}: the Hub cannot be reached ({_first_line(error)})") from error


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


@contextlib.contextmanager
def _progress() -> Iterator[None]:
    """The library's progress bars on a terminal; none elsewhere."""
    from huggingface_hub.utils import (  # type: ignore[attr-defined, unused-ignore]
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    if sys.stderr.isatty() or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


def _wanted(name: str, files: Collection[str], shards: Callable[[str], Collection[str]]) -> list[str]:
    """Of a model's files those that an encoder needs.

    Raises:
        InputError: config, weights or tokenizer are not among them; nothing large has been downloaded then.
    """
    folder = _encoder_folder(files)
    inner = [file.removeprefix(folder) for file in files if file.startswith(folder)]
    if not set(_CONFIGS) & set(inner):
        raise InputError(f"{name}: has no config.json, so it holds no encoder that bertune reads; {_listed(files)}")
    pieces = [file for file in inner if file.endswith(".model") and "/" not in file]
    if not pieces and not any(set(needed) <= set(inner) for needed in _TOKENIZERS):
        raise InputError(
            f"{name}: has neither tokenizer.json nor vocab.txt, nor vocab.json with merges.txt, nor SentencePiece's "
            "….model; load its tokenizer with transformers and save it, which writes tokenizer.json; "
            f"{_listed(files)}"
        )
    small = [file for file in files if file in _SMALL or file.removeprefix(folder) in _SMALL]
    small += [folder + file for file in pieces]
    for weights in _WEIGHTS:
        index = f"{weights}.index.json"
        if weights in inner:
            return [*small, folder + weights]
        if index in inner:
            return [*small, folder + index, *(folder + shard for shard in shards(folder + index))]
    other = next((why for file, why in huggingface.OTHER_WEIGHTS.items() if file in inner), "")
    raise InputError(
        f"{name}: has neither model.safetensors nor pytorch_model.bin, whole or sharded{other and f'; {other}'}; "
        f"{_listed(files)}"
    )


def _encoder_folder(files: Collection[str]) -> str:
    """Where the encoder lies: at the top, "", else in the first module's folder of an old sentence-transformers model.

    Returns: `0_Transformer/`, `0_BERT/`, … or "".
    """
    if set(_CONFIGS) & set(files) or sentence_transformers.MODULES not in files:
        return ""
    tops = (file.removesuffix("config.json") for file in files if file.endswith("/config.json"))
    return next((top for top in tops if top.startswith("0_") and top.count("/") == 1), "")


def _module_files(repo: str, revision: str | None, files: Collection[str]) -> list[str]:
    """Files of the modules that a sentence-transformers model puts behind its encoder."""
    from huggingface_hub import hf_hub_download

    if sentence_transformers.MODULES not in files:
        return []
    listed = sentence_transformers.module_files(
        Path(hf_hub_download(repo, sentence_transformers.MODULES, revision=revision))
    )
    wanted = [file for file in listed if file in files]
    # A module's weights are there in two forms at most; safetensors alone will do.
    twice = {file.replace("model.safetensors", "pytorch_model.bin") for file in wanted if file.endswith(".safetensors")}
    return [file for file in wanted if file not in twice]


def _listed(files: Collection[str]) -> str:
    shown = sorted(files)[:12]
    return f"it has: {', '.join(shown)}{', …' if len(files) > len(shown) else ''}" if files else "it is empty"


def _shards(repo: str, revision: str | None, index: str) -> list[str]:
    """Names of the shards that an index on the Hub lists."""
    from huggingface_hub import hf_hub_download

    return _shards_in(Path(hf_hub_download(repo, index, revision=revision)))


def _shards_in(index: Path) -> list[str]:
    try:
        weight_map = parse_json(small_file(index))["weight_map"]
        names = sorted({str(name) for name in weight_map.values()})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{index}: lacks a weight_map of tensor names to file names ({error})") from None
    strange = [name for name in names if not re.fullmatch(r"\w[\w.-]*", name)]
    if strange:
        raise InputError(f"{index}: names the file {strange[0]!r}, which lies outside its folder or has an odd name")
    return names


def _cached(repo: str, revision: str | None, why: str) -> Path:
    """The cache's own copy of a model.

    Raises:
        InputError: there is none, or it is not whole.
    """
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.constants import HF_HUB_CACHE

    looked = (try_to_load_from_cache(repo, name, revision=revision) for name in (*_CONFIGS, "modules.json"))
    found = next((path for path in looked if isinstance(path, str)), None)
    if found is None:
        raise InputError(
            f"{why}; there is no such file or folder either, and the cache ({HF_HUB_CACHE}) holds no copy: download it "
            "once with a network, or from a mirror that the environment variable HF_ENDPOINT names"
        )
    folder = Path(found).parent
    if not _is_whole(folder):
        raise InputError(f"{why}; and the copy in {folder} is not whole: download it once more with a network")
    return folder


def _is_whole(folder: Path) -> bool:
    folder = sentence_transformers.encoder_folder(folder)
    if not any(all((folder / name).is_file() for name in needed) for needed in _TOKENIZERS):
        return False
    for weights in _WEIGHTS:
        index = folder / f"{weights}.index.json"
        if (folder / weights).is_file():
            return True
        if index.is_file():
            return all((folder / name).is_file() for name in _shards_in(index))
    return False
