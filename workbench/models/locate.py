"""Finds the folder of a backbone: an offline pack, a local folder, or a repository of the model hub.

A model in the local cache of the hub is used without a network call. Otherwise the hub is asked once for the list of
files, with a short timeout, and only configuration, tokenizer and weights are downloaded.

Left out: code files of a repository.
"""

import json
import re
from difflib import get_close_matches
from pathlib import Path

from workbench.errors import QUESTION, BackboneError
from workbench.models import catalog
from workbench.models.heads import first_line
from workbench.network import is_unreachable

TIMEOUT_S = 5.0  # seconds to wait for the hub to answer
TEXTS = ("*.json", "*.txt", "*.model", "*.jinja")
_SAVED = "use a folder that save_pretrained has written"
WEIGHTS = ("model*.safetensors", "pytorch_model*.bin")  # the safe format first


def locate(name: str) -> Path:
    """Return the folder of the backbone `name`; download it if necessary.

    Args:
        name: A name in the catalog, a hub id, or a local folder.

    Raises:
        BackboneError: No backbone has that name, or the hub can't be reached.
        PackError: The offline pack of that name can't be downloaded.
    """
    entry = catalog.find(name)
    if entry is not None and entry.origin == "pack":
        from workbench import packs

        return packs.get(entry.identifier)
    folder = Path(name).expanduser()
    if entry is None and folder.exists():
        return _checked(name, folder)
    repository = name if entry is None else entry.identifier
    if not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", repository):
        raise BackboneError(f"no backbone {name!r}: it is neither a folder nor a hub id", hint=_hint(name))
    return _cached(repository) or _downloaded(name, repository)


def _checked(name: str, folder: Path) -> Path:
    if not (folder / "config.json").is_file():
        raise BackboneError(f"{name} has no config.json", hint=_SAVED)
    if not _has_weights(folder):
        raise BackboneError(
            f"{name} has no weights (model.safetensors)", hint="use a folder that save_pretrained has written"
        )
    return folder


def _has_weights(folder: Path) -> bool:
    """Whether all weight files exist: one file, or each shard that an index lists."""
    for index in folder.glob("*.index.json"):
        shards = set(json.loads(index.read_text())["weight_map"].values())
        if all((folder / shard).is_file() for shard in shards):
            return True
    return (folder / "model.safetensors").is_file() or (folder / "pytorch_model.bin").is_file()


def _cached(repository: str) -> Path | None:
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(repository, local_files_only=True))
    except Exception:  # any error means that the model is not in the cache
        return None
    return folder if (folder / "config.json").is_file() and _has_weights(folder) else None


def _downloaded(name: str, repository: str) -> Path:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        files = [file.rfilename for file in HfApi().model_info(repository, timeout=TIMEOUT_S).siblings or ()]
        weights = next((w for w in WEIGHTS if any(Path(file).match(w) for file in files)), WEIGHTS[0])
        return _checked(name, Path(snapshot_download(repository, allow_patterns=[*TEXTS, weights])))
    except GatedRepoError as error:
        raise BackboneError(
            f"{name} can be downloaded only after accepting its terms on its page of the model hub",
            hint="accept them there, then sign in with `hf auth login`",
        ) from error
    except RepositoryNotFoundError as error:
        raise BackboneError(f"no backbone {name!r}: it is not in the catalog, not a folder, and not on the hub",
                            hint=_hint(name)) from error  # fmt: skip
    except BackboneError:
        raise
    except Exception as error:  # which classes the hub's library raises changes with its version
        if is_unreachable(error):
            raise BackboneError(
                f"{name} is not on this machine, and the model hub can't be reached", hint=_hint(name)
            ) from error
        hint = "check that the disk is not full" if isinstance(error, OSError) else _hint(name)
        raise BackboneError(f"{name} can't be downloaded: {first_line(error)}", hint=hint) from error


def _hint(name: str) -> str:
    """Return the entries of the catalog whose name or hub id is close to `name`, and what needs no network."""
    packs = ", ".join(entry.name for entry in catalog.TABLE if entry.origin == "pack")
    offline = f"{packs} or a local folder: they need no network"
    known = {word.lower(): entry.name for entry in catalog.TABLE for word in (entry.name, *_ids(entry.identifier))}
    cutoff = 0.8 if "/" in name else 0.6  # a whole id is rarely a slip of the pen
    close = get_close_matches(name.lower(), known, n=3, cutoff=cutoff)
    meant = [] if name.lower() in known else list(dict.fromkeys(repr(known[word]) for word in close))
    return f"{QUESTION} {' or '.join(meant)}? Or use {offline}" if meant else f"use {offline}"


def _ids(identifier: str) -> tuple[str, str]:
    """Return a hub id, and its part after the owner, as which people know it."""
    return identifier, identifier.rpartition("/")[2]
