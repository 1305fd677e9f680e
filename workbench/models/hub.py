"""What went wrong with the Hugging Face hub, or with reading a model, in one sentence."""

import errno
from collections.abc import Iterator
from pathlib import Path

from huggingface_hub import errors, snapshot_download
from huggingface_hub.constants import ENDPOINT, HF_HUB_CACHE

from workbench.errors import WorkbenchError

# The most particular first: a gated repository is, to the library, also one that is not found.
SENTENCES: dict[type[BaseException], str] = {
    errors.GatedRepoError: (
        "{name} is gated: accept its terms at {hub}/{name}, then run `hf auth login` with an "
        "account that has access"
    ),
    errors.RevisionNotFoundError: "{name} has no such revision: see {hub}/{name}/tree/main",
    errors.RepositoryNotFoundError: (
        "there is no model {name} on the hub, or it is private: check the spelling, or run "
        "`hf auth login` with an account that may read it"
    ),
    errors.OfflineModeIsEnabled: (
        "{name} is not in the cache and the network is switched off (HF_HUB_OFFLINE): switch it "
        "on, or give a local folder"
    ),
    errors.LocalEntryNotFoundError: (
        "{name} is not in the cache and the hub cannot be reached: check the network, or give a "
        "local folder"
    ),
    errors.EntryNotFoundError: "{name} lacks a file that is needed: see {hub}/{name}/tree/main",
    ConnectionError: "the hub cannot be reached for {name}: check the network",
    TimeoutError: "the hub does not answer for {name}: check the network, or try again later",
}

# No pickles, and no second copy of the weights in another format.
WANTED = ("*.json", "model*.safetensors", "tokenizer*", "*.model", "*.txt", "*.jinja")


def fetched(name: str) -> Path:
    """The folder in the cache with the files of hub id `name`, downloaded if need be.

    Without a network what is in the cache is used, at once. Raises WorkbenchError.
    """
    try:
        return Path(snapshot_download(name, allow_patterns=list(WANTED)))
    except (OSError, ValueError, errors.EntryNotFoundError) as error:
        raise WorkbenchError(explained(name, error)) from error


def explained(name: str, error: BaseException) -> str:
    """Say in one sentence why `name` could not be loaded, and what to do about it."""
    causes = list(_chain(error))
    if any(isinstance(cause, OSError) and cause.errno == errno.ENOSPC for cause in causes):
        return (
            f"there is no space left on the disk for {name}: make room in {HF_HUB_CACHE}, or set "
            "HF_HOME to a folder on a larger disk"
        )
    for kind, sentence in SENTENCES.items():
        if any(isinstance(cause, kind) for cause in causes):
            return sentence.format(name=name, hub=ENDPOINT)
    reason = " ".join(str(error).split()) or type(error).__name__
    return f"{name} cannot be loaded: {reason[:300]}"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error, and what led to it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
