"""A schedule published in a repository: on the hub, or in a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from huggingface_hub import HfApi, constants, get_token

from autoprune.hub.card import card_of, is_hub_name, is_ours
from autoprune.hub.repository import CARD_FILE, is_folder, write_bundle
from autoprune.schedule import Schedule
from autoprune.schedule.bundle import Bundle, bundled
from autoprune.sources import HubError, RepositoryError, hub_file, hub_told


@dataclass(frozen=True)
class Pushed:
    """What a push wrote.

    Attributes:
        place: The folder, or the address of the repository on the hub.
        files: Names of the files.
        commit: The commit on the hub; None for a folder.
    """

    place: str
    files: tuple[str, ...]
    commit: str | None = None


def push(schedule: Schedule, repo: str, private: bool = False, base_model: str | None = None) -> Pushed:
    """Writes a schedule, its codebooks and its card into a repository, which is made if it is new.

    A card that is there and not that of a schedule is left alone.

    Args:
        schedule: The schedule.
        repo: A folder, or a name on the hub.
        private: Whether a new repository on the hub is private.
        base_model: Name on the hub of the model that it is for; None = as `base_of` finds it.

    Raises:
        ScheduleError: a codebook is missing, or another one.
        RepositoryError: a name is none, or the repository is public and must not be.
        HubError: there is no token, or the hub does not answer or refuses.
        OSError: the folder cannot be written.
    """
    bundle, base = bundled(named(schedule, base_model)), base_model or base_of(schedule)
    if not is_folder(repo):
        return _push_to_hub(bundle, repo, base, private)
    if private:
        raise RepositoryError("a folder cannot be made private", field="private", value=repo, remedy="leave it out")
    folder = Path(repo).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / CARD_FILE
    before = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
    return Pushed(str(folder), write_bundle(bundle, folder, _card(bundle, folder.resolve().name, base, before)))


def base_of(schedule: Schedule) -> str | None:
    """Name on the hub of the model that a schedule says it is for; None if that is a folder, or any model.

    A folder stands in a schedule as its last two parts, which look like a name on the hub; a commit tells them apart.
    """
    name = schedule.model.name if schedule.model else ""
    return name if "model_revision" in schedule.evidence and is_hub_name(name) else None


def named(schedule: Schedule, base_model: str | None) -> Schedule:
    """The schedule with another name of its model, if it says which model it is for.

    Raises:
        RepositoryError: there can be no such model on the hub.
    """
    if base_model is None:
        return schedule
    if not is_hub_name(base_model):
        said = "is no name of a model on the hub"
        raise RepositoryError(said, field="base_model", value=base_model, remedy="write owner/name")
    model = schedule.model and schedule.model.model_copy(update={"name": base_model})
    return schedule.model_copy(update={"model": model})


def _card(bundle: Bundle, name: str, base: str | None, before: str) -> str | None:
    """The card of a repository; None if that is to stay which was there before."""
    return card_of(bundle.schedule, name, base) if not before or is_ours(before) else None


def _push_to_hub(bundle: Bundle, repo: str, base: str | None, private: bool) -> Pushed:
    if constants.HF_HUB_OFFLINE:
        raise HubError("the hub is not asked", field="HF_HUB_OFFLINE", value=1, remedy="unset it, or give a folder")
    if get_token() is None:
        remedy = "log in with `hf auth login`, or set HF_TOKEN; a folder is written such as ./name"
        raise HubError("needs a token", field="repository", value=repo, remedy=remedy)
    api = HfApi()
    with hub_told(repo, "the repository"):
        made = api.create_repo(repo, private=private or None, exist_ok=True)
        if private and not api.model_info(made.repo_id).private:
            remedy = "make it private on the hub, or push without --private"
            raise RepositoryError("exists and is public", field="repository", value=repo, remedy=remedy)
    try:
        before = hub_file(made.repo_id, CARD_FILE).read_text(encoding="utf-8", errors="replace")
    except RepositoryError:
        before = ""
    with TemporaryDirectory() as folder, hub_told(repo, "the repository"):
        files = write_bundle(bundle, Path(folder), _card(bundle, made.repo_id, base, before))
        try:
            commit = api.upload_folder(
                repo_id=made.repo_id, folder_path=folder, commit_message="Pruning schedule", allow_patterns=list(files)
            )
        except ValueError as error:
            if type(error) is not ValueError:  # the client's own errors, which are told as others are
                raise
            raise RepositoryError(f"the hub refuses the card: {error}", field="repository", value=repo) from None
    return Pushed(str(made), files, commit.oid)
