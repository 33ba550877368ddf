"""The lines that say how to run the service, run as they stand."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from support.processes import free_ports
from support.service import study_in

import autoprune.service
from autoprune.schedule import Schedule
from autoprune.service.settings import PREFIX

ROOM = Path(autoprune.service.__file__).parent
MANUALS = {
    "the project's": (ROOM.parents[1] / "README.md").read_text(encoding="utf-8").split("## Run it as a service")[1],
    "the service's": (ROOM / "README.md").read_text(encoding="utf-8"),
}


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("curl") is None, reason="the lines ask with curl whether the service answers")
@pytest.mark.parametrize("manual", MANUALS)
def test_a_newcomer_gets_a_schedule(root: Path, tmp_path: Path, manual: str) -> None:
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "digit_scenes").symlink_to(root)  # a smaller model and study under the same names
    (root / "study.yaml").write_text(yaml.safe_dump(study_in(root, trials=6)))
    (port,) = free_ports(1)
    lines = MANUALS[manual].split("```bash\n")[1].split("```")[0]
    assert len(lines.splitlines()) == 5
    lines = lines.replace("127.0.0.1:8321", f"127.0.0.1:{port}").replace("0.02", "1")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AUTOPRUNE")},
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "AUTOPRUNE_SERVER": f"http://127.0.0.1:{port}",
        f"{PREFIX}PORT": str(port),
    }
    text = f"trap 'kill %1; wait %1' EXIT\n{lines}"
    with open(tmp_path / "said", "w+") as said:  # a pipe would be read for as long as the service runs
        done = subprocess.run(
            ["bash", "-me", "-c", text], cwd=tmp_path, env=environment, stdout=said, stderr=said, timeout=240
        )
    assert done.returncode == 0, [(tmp_path / name).read_text() for name in ("said", "serve.log")]
    assert Schedule.load(tmp_path / "schedule.json").stages
    assert "written: schedule.json" in (tmp_path / "said").read_text()
