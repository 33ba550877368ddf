"""Data sets, from JSONL, Parquet or a `datasets` name: a `SampleSet` has a digest of its content."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

from datasets import Image, IterableDataset, load_dataset

from autoprune.data.columns import check_columns
from autoprune.data.lines import bad_line, check_bounds
from autoprune.data.rows import RowError, Sample, parse_row
from autoprune.errors import DataError
from autoprune.sources import NOT_ASKED, hub_or_cache, is_path

__all__ = ["Sample", "SampleSet", "load_samples"]

_FILE_KINDS = {".jsonl": "json", ".json": "json", ".parquet": "parquet"}
_SHOWN = 3  # row errors spelled out in one message


@dataclass(frozen=True)
class SampleSet(Sequence[Sample]):
    """Samples in a fixed order.

    Attributes:
        samples: The samples.
        digest: sha256 over the content of all of them (fields and image bytes), in order.
        name: Path or name that they were loaded from.
        unread: Columns of the data that no field takes.
    """

    samples: tuple[Sample, ...]
    digest: str
    name: str
    unread: tuple[str, ...] = ()

    @classmethod
    def of(cls, samples: Iterable[Sample], name: str, unread: Iterable[str] = ()) -> SampleSet:
        """The set of these samples, with its digest."""
        samples = tuple(samples)
        digest = hashlib.sha256("\n".join(sample.digest for sample in samples).encode()).hexdigest()
        return cls(samples, digest, name, tuple(unread))

    @property
    def kinds(self) -> dict[str, int]:
        """How many rows are judged by what, and how many show no image; kinds that have none are left out.

        ``answers`` and ``choices`` are judged by them, ``neither`` by the dense model's own answer; ``several images``,
        ``video`` and ``text only`` are counted beside that.
        """
        counts = {
            "answers": sum(bool(sample.answers) for sample in self),
            "choices": sum(sample.choices is not None for sample in self),
            "neither": sum(not sample.answers and sample.choices is None for sample in self),
            "several images": sum(len(sample.images) > 1 for sample in self),
            "video": sum(bool(sample.videos) for sample in self),
            "text only": sum(sample.is_text_only for sample in self),
        }
        return {kind: count for kind, count in counts.items() if count}

    @property
    def visual(self) -> SampleSet:
        """The samples that show something; the set itself where all do."""
        shown = [sample for sample in self if not sample.is_text_only]
        return self if len(shown) == len(self) else SampleSet.of(shown, self.name, self.unread)

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Sample, ...]: ...
    def __getitem__(self, index: int | slice) -> Sample | tuple[Sample, ...]:
        return self.samples[index]


def load_samples(
    path: str | Path,
    *,
    split: str = "train",
    config: str | None = None,
    samples: int | None = None,
    seed: int = 0,
    columns: Mapping[str, str] | None = None,
    base: str | Path | None = None,
) -> SampleSet:
    """A data set, loaded and checked as a whole.

    Args:
        path: A ``.jsonl``, ``.json`` or ``.parquet`` file, or a name or folder that `datasets.load_dataset` knows.
        split: Split of a named data set; a file has only ``train``.
        config: Configuration of a named data set that has several.
        samples: How many rows to draw, None for all. The draw depends on `seed` and the number of rows alone, a smaller
            draw is part of a larger one, and drawn rows keep their order.
        seed: Of the draw.
        columns: Name of the column that holds a field, for data whose columns have other names.
        base: Folder that a relative `path` starts at; default: the working folder.

    Raises:
        DataError: the data cannot be read, or rows are wrong: each is named with its row, field and remedy.
    """
    name, base = str(path), Path(base or ".")
    kind = _FILE_KINDS.get(Path(path).suffix.lower())
    source = base / Path(path).expanduser()
    if kind and config is not None:
        raise DataError("a file has no configurations", field="data.config", value=config, remedy="leave config out")
    rows = _file_rows(source, kind, split) if kind else _named_rows(name, base, config, split)
    if not rows:
        raise DataError("holds no rows", field="data.path", value=name, remedy="give a data set that has rows")
    numbers = _draw(len(rows), samples, seed)
    names, unread = check_columns(columns or {}, list(dict.fromkeys(key for row in rows for key in row)), name)
    folder = source.parent if kind else (source if os.path.isdir(source) else base)
    parsed = _parse([(n, rows[n]) for n in numbers], names, folder, name)
    if all(sample.is_text_only for sample in parsed):
        raise DataError(
            "no row has an image or a video",
            field="rows.image",
            value=name,
            remedy="give `image`, `images` or `video`, or name their column in `columns`",
        )
    return SampleSet.of(parsed, name, unread)


def _file_rows(file: Path, kind: str, split: str) -> list[dict[str, Any]]:
    if not os.path.isfile(file):
        raise _no_such_file(str(file))
    if split != "train":
        raise DataError("a file has only the split 'train'", field="data.split", value=split, remedy="leave split out")
    if not file.stat().st_size:
        raise DataError("is empty", field="data.path", value=str(file), remedy="give a file with at least one row")
    if kind == "json":
        check_bounds(file)
    try:
        # Streaming reads the file itself: no second copy in a cache that could be stale, or could not be written.
        with tempfile.TemporaryDirectory() as unused:
            return _rows(load_dataset(kind, data_files=str(file), split="train", streaming=True, cache_dir=unused))
    except Exception as error:  # the reader raises its own, pyarrow's and pandas' classes
        raise DataError(
            f"cannot be read: {bad_line(file) or _reason(error)}",
            field="data.path",
            value=str(file),
            remedy="write one JSON object per line, each field of the same type in every row"
            if kind == "json"
            else "check that it is a Parquet file",
        ) from error


def _no_such_file(path: str) -> DataError:
    return DataError("no such file", field="data.path", value=path, remedy=NOT_ASKED)


def _named_rows(name: str, base: Path, config: str | None, split: str) -> list[dict[str, Any]]:
    folder = base / Path(name).expanduser()
    if not os.path.isdir(folder) and is_path(name, base):
        raise _no_such_file(name)
    try:
        with hub_or_cache(folder):
            return _rows(load_dataset(str(folder) if os.path.isdir(folder) else name, config, split=split))
    except Exception as error:  # the hub, the network and the builders each raise their own classes
        raise DataError(
            f"`datasets` cannot load it: {_reason(error)}",
            field="data.path",
            value=name,
            remedy=f"give a .jsonl or .parquet file that exists, or a `datasets` name that has the split {split!r}",
        ) from error


def _rows(dataset: Any) -> list[dict[str, Any]]:
    for column, feature in (dataset.features or {}).items():
        # Undecoded: the digest needs the encoded bytes, and images are opened only when a model needs them.
        if isinstance(feature, Image):
            dataset = dataset.cast_column(column, Image(decode=False))
        elif isinstance(getattr(feature, "feature", None), Image):
            dataset = dataset.cast_column(column, type(feature)(Image(decode=False)))
    return list(dataset) if isinstance(dataset, IterableDataset) else [dict(row) for row in dataset]


def _reason(error: BaseException) -> str:
    return " ".join(str(error.__cause__ or error).split())[:200]


def _draw(rows: int, samples: int | None, seed: int) -> list[int]:
    if samples is None:
        return list(range(rows))
    if not 0 < samples <= rows:
        raise DataError(f"must be 1 to {rows}", field="data.samples", value=samples, remedy="null takes all rows")
    # Ranks by hash and not by a generator, whose stream may change between versions.
    ranked = sorted(range(rows), key=lambda number: hashlib.sha256(f"{seed}:{number}".encode()).digest())
    return sorted(ranked[:samples])


def _parse(rows: list[tuple[int, dict[str, Any]]], names: dict[str, str], base: Path, data: str) -> list[Sample]:
    parsed: list[Sample] = []
    errors: list[tuple[int, RowError]] = []
    for number, row in rows:
        try:
            parsed.append(parse_row({ours: row.get(theirs) for ours, theirs in names.items()}, number, base))
        except RowError as error:
            errors.append((number, error))
    if errors:
        shown = [f"row {number}: {error.field} {error.message}" for number, error in errors[:_SHOWN]]
        more = f"; and {len(errors) - _SHOWN} more rows" if len(errors) > _SHOWN else ""
        first, cause = errors[0]
        raise DataError(f"{data}: {'; '.join(shown)}{more}", field=f"rows[{first}].{cause.field}", remedy=cause.remedy)
    return parsed
