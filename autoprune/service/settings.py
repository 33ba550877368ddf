"""Settings of the service, from variables named ``AUTOPRUNE_SERVICE_…`` or files of a secrets folder."""

from __future__ import annotations

import difflib
import os
from collections.abc import Container, Iterable
from pathlib import Path
from typing import Annotated, Any, Final, Self

import limits
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_core import InitErrorDetails
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from autoprune.errors import StudyError
from autoprune.schedule.validation import explained
from autoprune.search.addresses import is_loopback

PREFIX: Final = "AUTOPRUNE_SERVICE_"
_SECRETS_DIR: Final = f"{PREFIX}SECRETS_DIR"
STUDY_KEYS: Final = ("output", "storage", "storage_wait")
"""Keys of a study file that the service decides."""


def _listed(given: Any) -> Any:
    """Parts of a variable that holds several, as in ``PATH``."""
    return tuple(part for part in given.split(os.pathsep) if part) if isinstance(given, str) else given


def _rate(given: str) -> str:
    try:
        limits.parse(given)
    except ValueError:
        raise ValueError("must be a number of requests and a time, such as 600/minute") from None
    return given


def _variable(name: str) -> str:
    return f"{PREFIX}{name.upper()}"


def _refuse_unknown(names: Iterable[str]) -> None:
    known = [name.upper() for name in names]
    for variable in sorted(os.environ):
        name = variable.upper().removeprefix(PREFIX)
        if variable.upper().startswith(PREFIX) and name not in known:
            near = difflib.get_close_matches(name, known, 1)
            remedy = f"did you mean {PREFIX}{near[0]}?" if near else f"unset it; there are {', '.join(known)}"
            raise StudyError("is no setting of the service", field=variable, remedy=remedy)


def _check_folder(field: str, folder: Path) -> None:
    if not folder.is_dir():
        raise StudyError("is no folder", field=field, value=str(folder), remedy="make it, or name another one")


def _by_variable(error: ValidationError, given: Container[str]) -> ValidationError:
    """What pydantic refused, each setting by the name of its variable unless it was given in another way."""
    refused = []
    for item in error.errors():
        name, *inside = item["loc"]
        place = (name if name in given else _variable(str(name)), *inside)
        refused.append(InitErrorDetails(type=item["type"], loc=place, input=item["input"], ctx=item.get("ctx", {})))
    return ValidationError.from_exception_data(error.title, refused)


class Settings(BaseSettings):
    """What the api, the runners and their drivers have in common.

    Attributes:
        folder: Output folders of studies, and the database unless another is named.
        database: URL of the database; None = SQLite in `folder`.
        roots: Folders from which models and data may be read; relative paths start at the first.
        hub: Names on the hub that may be used, with wildcards: ``llava-hf/*``.
        trust_remote_code: Whether a study may ask for it.
        host: Address to listen on; without tokens a loopback address only.
        port: Port.
        runners: Runner processes beside the api.
        lease_s: Seconds after which a job is taken from a runner that says nothing.
        most_bytes: Largest body of a request.
        most_trials: Most trials of a study.
        most_workers: Most workers of a study.
        rate: Requests of one caller, which is a token, or an address where there is none.
        most_rows: Most rows of a data set.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX)

    folder: Path = Path("autoprune-service")
    database: SecretStr | None = None
    roots: Annotated[tuple[Path, ...], NoDecode, BeforeValidator(_listed), Field(min_length=1)] = (Path(),)
    hub: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_listed)] = ()
    trust_remote_code: bool = False
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8321
    runners: Annotated[int, Field(ge=0)] = 1
    lease_s: Annotated[float, Field(ge=1)] = 30.0
    most_bytes: Annotated[int, Field(ge=1)] = 1_000_000
    most_trials: Annotated[int, Field(ge=1)] = 5_000
    most_workers: Annotated[int, Field(ge=0)] = 64
    rate: Annotated[str, AfterValidator(_rate)] = "600/minute"
    most_rows: Annotated[int, Field(ge=1)] = 20_000

    @classmethod
    def read(cls, **given: Any) -> Self:
        """The settings; what is given here wins over variables, and these over files.

        Raises:
            StudyError: a setting is out of range, no variable of ours, or names a folder that is none; its field is
                the variable, or the name of what is given here.
        """
        _refuse_unknown([*cls.model_fields, "secrets_dir"])
        secrets = os.environ.get(_SECRETS_DIR)
        if secrets is not None:
            _check_folder(_SECRETS_DIR, Path(secrets))
        given = {name: value for name, value in given.items() if value is not None}
        try:
            found = cls(_secrets_dir=secrets, **given)
        except ValidationError as error:
            raise explained(_by_variable(error, given), cls, StudyError, where="settings") from None
        for root in found.roots:
            _check_folder("roots" if "roots" in given else _variable("roots"), root)
        return found

    @property
    def database_url(self) -> str:
        """URL of the database, with its password."""
        if self.database is not None:
            return self.database.get_secret_value()
        return f"sqlite:///{(self.folder.resolve() / 'service.db').as_posix()}"

    @property
    def on_server(self) -> bool:
        """Whether the database is a server, which studies then share as well."""
        return not self.database_url.startswith("sqlite")

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the api."""
        return is_loopback(self.host)

    def output_of(self, job_id: str) -> Path:
        """Output folder of a job."""
        return self.folder.resolve() / "studies" / job_id

    def codebook_file(self, sha256: str) -> Path:
        """Where the codebook with a digest is kept for published schedules."""
        return self.folder.resolve() / "codebooks" / f"{sha256}.safetensors"

    def environment(self) -> dict[str, str]:
        """Variables under which a process of ours reads the same settings; no secret stands on a command line."""
        plain = self.model_dump(mode="json", exclude={"database", "roots", "hub"})
        plain |= {
            "roots": os.pathsep.join(str(root.resolve()) for root in self.roots),
            "hub": os.pathsep.join(self.hub),
        }
        plain |= {"folder": str(self.folder.resolve()), "database": self.database_url}
        return {**os.environ, **{_variable(name): str(value) for name, value in plain.items()}}
