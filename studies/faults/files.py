"""Files: disks that are full, inputs that change between two runs, results that are damaged."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kinds import kind
from scene import Driver, Scene


@kind("disk of the output full in the search", 1, needs_mount=True)
def disk_full(scene: Scene) -> Iterator[Driver]:
    with _small_disk(scene.output) as disk:
        driver = scene.searching()
        _fill(disk)
        driver.end(300)
        yield driver
        (disk / "filler").unlink()
        shutil.copytree(disk, scene.folder / "kept")
    shutil.copytree(scene.folder / "kept", scene.output, dirs_exist_ok=True)


@kind("disk full for front.json alone, trials elsewhere", 1, needs_mount=True)
def disk_full_for_the_front(scene: Scene) -> Iterator[Driver]:
    (scene.folder / "db").mkdir()
    text = scene.study.read_text().replace("storage: null", f"storage: sqlite:///{scene.folder}/db/study.db")
    scene.study.write_text(text)
    with _small_disk(scene.output) as disk:
        driver = scene.searching()
        _fill(disk)
        driver.end(300)
        yield driver


@kind("output folder removed in the search", 1)
def output_removed(scene: Scene) -> Iterator[Driver]:
    (scene.folder / "db").mkdir()
    text = scene.study.read_text().replace("storage: null", f"storage: sqlite:///{scene.folder}/db/study.db")
    scene.study.write_text(text)
    driver = scene.searching()
    shutil.rmtree(scene.output)
    yield driver


@kind("front.json damaged between two runs", 0)
def front_damaged(scene: Scene) -> Iterator[Driver]:
    scene.stopped()
    front = scene.output / "front.json"
    front.write_bytes(front.read_bytes()[:1000])
    yield scene.start()


@kind("row changed between two runs", 2)
def row_changed(scene: Scene) -> Iterator[Driver]:
    scene.stopped()
    with _changed(scene.folder / "calibration.jsonl") as file:
        lines = file.read_text().splitlines()
        file.write_text("\n".join([lines[0].replace('"answers": ["', '"answers": ["not '), *lines[1:]]) + "\n")
        yield scene.start()


@kind("image changed between two runs", 2)
def image_changed(scene: Scene) -> Iterator[Driver]:
    scene.stopped()
    images = sorted((scene.folder / "images" / "calibration").iterdir())
    with _changed(images[0]) as file:
        shutil.copy(images[-1], file)
        yield scene.start()


@kind("image truncated between two runs", 2)
def image_truncated(scene: Scene) -> Iterator[Driver]:
    scene.stopped()
    images = sorted((scene.folder / "images" / "calibration").iterdir())
    with _changed(images[0]) as file:
        file.write_bytes(file.read_bytes()[:100])
        yield scene.start()


@kind("images removed in the search", 0, 1, workers=1)
def images_removed(scene: Scene) -> Iterator[Driver]:
    driver = scene.searching()
    shutil.move(scene.folder / "images", scene.folder / "moved")
    driver.end(300)
    yield driver
    shutil.move(scene.folder / "moved", scene.folder / "images")


@kind("weights truncated between two runs", 1, 2)
def weights_truncated(scene: Scene) -> Iterator[Driver]:
    scene.stopped()
    with _changed(scene.folder / "model" / "model.safetensors") as file:
        file.write_bytes(file.read_bytes()[:1_000_000])
        yield scene.start()


@kind("weights truncated, worker processes", 1, 2, workers=1)
def weights_truncated_workers(scene: Scene) -> Iterator[Driver]:
    with _changed(scene.folder / "model" / "model.safetensors") as file:
        file.write_bytes(file.read_bytes()[:1_000_000])
        yield scene.start()


@kind("other weights between two runs", 1, 2)
def other_weights(scene: Scene) -> Iterator[Driver]:
    scene.stopped()
    with _changed(scene.folder / "model" / "model.safetensors") as file:
        content = bytearray(file.read_bytes())
        content[-2000:-1000] = content[-1000:]
        file.write_bytes(content)
        yield scene.start()


@contextmanager
def _changed(file: Path) -> Iterator[Path]:
    """A file that has its content again afterwards."""
    content = file.read_bytes()
    yield file
    file.write_bytes(content)


@contextmanager
def _small_disk(folder: Path) -> Iterator[Path]:
    """A folder that is a disk of 8 MiB."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _fill(disk: Path) -> None:
    with (disk / "filler").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 4096)
        except OSError:
            return
