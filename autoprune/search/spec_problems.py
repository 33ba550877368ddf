"""What can be wrong with a study file, in words; each finding is one string ``field: message``."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError
from transformers import AutoConfig

from autoprune import presets
from autoprune.errors import AutopruneError
from autoprune.evaluate.objectives import COSTS, OBJECTIVES, QUALITIES
from autoprune.schedule import ModelIdentity, parse_criterion
from autoprune.schedule.criteria import SHORT_NAMES
from autoprune.search.sections import DataSection, DataSet, ModelSection, Space

_FILE_SUFFIXES = (".jsonl", ".json", ".parquet")
_DATABASES = ("sqlite", "postgresql")


def checked_objectives(given: tuple[str, ...]) -> tuple[str, ...]:
    """The objectives, if all are known, at least one is a cost and one a quality, and none is named twice.

    Raises:
        ValueError: they are not.
    """
    if unknown := [name for name in given if name not in OBJECTIVES]:
        raise ValueError(f"must be of {', '.join(OBJECTIVES)} (got {unknown[0]!r})")
    if len(set(given)) != len(given):
        raise ValueError("names an objective twice")
    for kind, names in (("cost", COSTS), ("quality", QUALITIES)):
        if not set(names) & set(given):
            raise ValueError(f"needs at least one {kind}: {', '.join(names)} (got {list(given)})")
    return given


def unknown_key(key: object, known: list[str], where: str = "") -> str:
    """The finding for a key that no section has, with the nearest one that it has."""
    near = difflib.get_close_matches(str(key), known, 1)
    hint = f"did you mean '{near[0]}'?" if near else f"the keys are {', '.join(known)}"
    return f"{where}{key}: unknown key; {hint}"


def explain(error: ValidationError, root: str, kind: Any) -> list[str]:
    """The findings of pydantic in our words."""
    found = []
    for item in error.errors():
        loc = item["loc"]
        if item["type"] == "extra_forbidden":
            where = _path((root, *loc[:-1]))
            found.append(unknown_key(loc[-1], _known_keys(kind, loc[:-1]), f"{where}."))
            continue
        message = item["msg"].removeprefix("Value error, ")
        got = "" if item["type"] in ("missing", "value_error") else f" (got {item['input']!r})"
        found.append(f"{_path((root, *loc))}: {'is missing' if item['type'] == 'missing' else message}{got}")
    return list(dict.fromkeys(found))


def resolve(values: dict[str, Any], base: Path) -> tuple[dict[str, Any], list[str]]:
    """Absolute paths, and every finding that needs the disk or more than one section.

    Args:
        values: The sections that are valid on their own.
        base: Folder of the study file.
    """
    values, found = dict(values), []
    config = None
    if "model" in values:
        values["model"], config, finding = _model(values["model"], base)
        found += finding
    if "data" in values:
        values["data"], finding = _data(values["data"], base)
        found += finding
    if "space" in values:
        values["space"] = _space_with_paths(values["space"], base)
        found += check_space(values["space"], ModelIdentity.from_config(config).num_layers if config else None)
    if "baselines" in values:
        values["baselines"], finding = _baselines(values["baselines"], base, config)
        found += finding
    if "output" in values:
        values["output"] = str((base / values["output"]).resolve())
        if Path(values["output"]).is_file():
            found.append(f"output: is a file, not a folder (got {values['output']!r})")
    if values.get("storage"):
        values["storage"] = absolute_storage(values["storage"], base)
        found += _storage(values["storage"])
    return values, found


def absolute_storage(url: str, base: Path) -> str:
    """A SQLite URL whose relative file starts at `base`; other URLs as they are."""
    prefix = "sqlite:///"
    if not url.startswith(prefix) or url.startswith(prefix + "/") or url[len(prefix) :] in ("", ":memory:"):
        return url
    return prefix + (base / url[len(prefix) :]).resolve().as_posix()


def check_space(space: Space, num_layers: int | None) -> list[str]:
    """What is wrong between the fields of `space`, and between them and the model's depth, where it is known."""
    found = []
    explicit = () if space.layers == "all" else space.layers
    if num_layers is not None:
        wrong = [k for k in explicit if k >= num_layers]
        if wrong:
            found.append(f"space.layers: the model has layers 0 to {num_layers - 1} (got {wrong})")
        if space.max_stages > num_layers:
            found.append(f"space.max_stages: the model has {num_layers} layers only (got {space.max_stages})")
    for layer in explicit:
        problems = [criterion.problem_at(layer) for criterion in space.criteria]
        if all(problems) and (layer == 0 or 0.0 not in space.keep):
            able = [name for name in SHORT_NAMES if parse_criterion(name).problem_at(layer) is None]
            found.append(
                f"space.layers: no criterion of the space can serve layer {layer}: {problems[0]}; add one that can "
                f"({', '.join(able)}), or leave layer {layer} out (its withdrawal is always tried)"
            )
    if num_layers and all(criterion.problem_at(k) for criterion in space.criteria for k in range(num_layers)):
        found.append(f"space.criteria: none of them can serve a layer of this model (got {len(space.criteria)})")
    return found


def _path(loc: tuple[int | str, ...]) -> str:
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else (f".{part}" if text else str(part))
    return text


def _known_keys(kind: Any, loc: tuple[int | str, ...]) -> list[str]:
    for part in loc:
        field = kind.model_fields.get(part) if _is_model(kind) else None
        if field is None:
            return []
        options = [field.annotation, *getattr(field.annotation, "__args__", ())]
        kind = next((option for option in options if _is_model(option)), None)
    return list(kind.model_fields) if _is_model(kind) else []


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _model(section: ModelSection, base: Path) -> tuple[ModelSection, Any, list[str]]:
    folder = (base / section.path).resolve()
    if folder.is_dir():
        section = section.model_copy(update={"path": str(folder)})
    elif section.path.startswith((".", "/", "~")) or section.path.count("/") > 1:
        return (
            section,
            None,
            [f"model.path: no such folder; relative paths start at the study file (got {section.path!r})"],
        )
    try:
        config = AutoConfig.from_pretrained(
            section.path, revision=section.revision, trust_remote_code=section.trust_remote_code
        )
        ModelIdentity.from_config(config, section.path)
    except (OSError, ValueError, KeyError, AttributeError) as error:
        reason = str(error).strip().splitlines()[0][:200]
        what = (
            "its config.json cannot be used"
            if folder.is_dir()
            else "is neither a folder beside the study file nor a model on the hub"
        )
        return section, None, [f"model.path: {what}: {reason} (got {section.path!r})"]
    return section, config, []


def _data(section: DataSection, base: Path) -> tuple[DataSection, list[str]]:
    found, resolved = [], {}
    for name in ("calibration", "validation"):
        part: DataSet | None = getattr(section, name)
        if part is None:
            continue
        place = (base / part.path).expanduser().resolve()
        if place.exists():
            part = part.model_copy(update={"path": str(place)})
        elif place.suffix.lower() in _FILE_SUFFIXES or part.path.startswith((".", "/", "~")):
            found.append(f"data.{name}.path: no such file; relative paths start at the study file (got {part.path!r})")
        resolved[name] = part
    return section.model_copy(update=resolved), found


def _space_with_paths(space: Space, base: Path) -> Space:
    return space.model_copy(update={"criteria": tuple(c.from_folder(base) for c in space.criteria)})


def _baselines(names: tuple[str, ...], base: Path, config: Any) -> tuple[tuple[str, ...], list[str]]:
    found = []
    depth = presets.PUBLISHED_DEPTH if config is None else ModelIdentity.from_config(config).num_layers
    for i, name in enumerate(names):
        try:
            schedule = presets.resolve(name, depth, base)
            if config is not None:
                schedule.check_model(config)
        except AutopruneError as error:
            found.append(f"baselines[{i}]: {error}")
    if len(set(names)) != len(names):
        found.append("baselines: names a baseline twice")
    return tuple(name if name in presets.NAMES else str((base / name).resolve()) for name in names), found


def _storage(url: str) -> list[str]:
    remedy = "use sqlite:///FILE or postgresql://USER:PASSWORD@HOST/DATABASE"
    try:
        parsed = make_url(url)
    except ArgumentError:
        return [f"storage: is no database URL (got {url!r}); {remedy}"]
    shown = parsed.render_as_string(hide_password=True)
    if parsed.get_backend_name() not in _DATABASES:
        return [f"storage: no such kind of database (got {shown!r}); {remedy}"]
    if parsed.get_backend_name() == "sqlite":
        if not parsed.database or parsed.database == ":memory:":
            return [f"storage: a study in memory could not be resumed (got {shown!r}); {remedy}"]
        if not Path(parsed.database).parent.is_dir():
            return [f"storage: no such folder (got {shown!r}); create it first"]
    return []
