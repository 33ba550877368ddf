"""What a request publishes: a point of a study, or a schedule that was made elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from autoprune.errors import StudyError
from autoprune.report.exported import claim_of, exported
from autoprune.report.wishes import Wish
from autoprune.schedule import CodebookCriterion, Schedule
from autoprune.schedule.bundle import codebook_content, codebook_name, codebooks_of, relocated, with_codebooks_at
from autoprune.schedule.files import write_whole
from autoprune.search.front import FrontFile
from autoprune.service.settings import Settings
from autoprune.service.store.lineage import Lineage, lineage_of
from autoprune.service.work.places import check_place
from autoprune.service.work.selector import PointSelector


class Publication(PointSelector):
    """A point of a study, chosen as ``GET /v1/studies/{id}/schedule`` does, or a schedule file."""

    study: str | None = Field(None, description="Id of a study; a wish chooses its point.")
    schedule: dict[str, Any] | None = Field(None, description="A schedule file, in place of a study.")

    def check(self) -> None:
        """Refuses what names both a study and a schedule, or neither.

        Raises:
            StudyError: saying so.
        """
        if (self.study is None) == (self.schedule is None):
            raise StudyError("takes one of study and schedule", field="study", remedy="give one of them")
        wish = self.wish()
        if self.schedule is not None and wish:
            raise StudyError("chooses a point of a study", field=next(iter(wish)), remedy="leave it out")

    def of_study(self, folder: Path) -> tuple[Schedule, Lineage]:
        """The point of a study, and where it comes from.

        Args:
            folder: Output folder of the study.

        Raises:
            StudyError: the wish is none, or more than one.
            NoPointError: no point qualifies.
        """
        front = FrontFile.load(folder)
        schedule = exported(front, claim_of(front, Wish.of(front, **self.wish()), record=folder))
        return schedule, lineage_of(schedule, front, self.study)

    def of_file(self, settings: Settings) -> tuple[Schedule, Lineage]:
        """The schedule that the request brings, and where it comes from.

        Raises:
            ScheduleError: it is none.
        """
        schedule = Schedule.model_validate(self.schedule).from_folder(settings.roots[0])
        return schedule, lineage_of(schedule)


def keep_codebooks(schedule: Schedule, settings: Settings) -> Schedule:
    """Keeps the codebooks of a schedule with the service, by their digests; the schedule as it is handed out.

    Raises:
        ScheduleError: a codebook is not known yet, and is missing or another one.
        StudyError: it lies outside of the folders that this service reads.
    """
    for criterion in codebooks_of(schedule):
        if not is_kept(criterion, settings):
            kept = settings.codebook_file(criterion.sha256)
            check_place("criterion.path", criterion.path, settings)
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_whole(kept, codebook_content(criterion))
    return relocated(schedule)


def is_kept(criterion: CodebookCriterion, settings: Settings) -> bool:
    """Whether the service has a codebook, which it then takes in place of the file that the path leads to.

    Raises:
        ScheduleError: its digest is none.
    """
    codebook_name(criterion)  # a digest that is none leads nowhere
    return settings.codebook_file(criterion.sha256).is_file()


def with_kept_codebooks(schedule: Schedule, settings: Settings) -> Schedule:
    """A schedule whose codebooks are named where the service keeps them, if it does.

    Raises:
        ScheduleError: the digest of a codebook is none.
    """

    def place(criterion: CodebookCriterion) -> str:
        return str(settings.codebook_file(criterion.sha256)) if is_kept(criterion, settings) else criterion.path

    return with_codebooks_at(schedule, place)
