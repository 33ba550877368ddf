from __future__ import annotations

import csv
import re


def test_a_page_and_a_sheet(cli, tiny, rows, tmp_path):
    target = tmp_path / "ablation.html"
    options = ["--data", rows, "--samples", 6, "--k1", 1, "--k2", 3, "--keep1", 0.5, "--keep2", 0.25, "--keep2", 0.1]
    found = cli("ablate", tiny, *options, "-o", target, "--json").json
    with (tmp_path / "ablation.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == len(found["rows"]) == 2 * 7
    assert {line["arm"] for line in lines} == set(found["arms"])
    assert [float(line["accuracy"]) for line in lines] == [r["accuracy"]["mean"] for r in found["rows"]]
    page = target.read_text()
    assert "swapped" in page
    assert not re.findall(r'(?:src|href)="(?!data:)', page), "the page must need nothing else"
    again = cli("ablate", tiny, *options, "-o", target)
    assert again.code == 2
    assert "--force" in again.err
    few = ["--data", rows, "--samples", 4, "--k1", 1, "--k2", 3, "--keep1", 0.5, "--keep2", 0.25]
    people = cli("ablate", tiny, *few, "-o", target, "--force")
    assert "lead" in people.out


def test_a_layer_out_of_range_is_bad_input(cli, tiny, rows, tmp_path):
    result = cli("ablate", tiny, "--data", rows, "--k1", 9, "-o", tmp_path / "a.html")
    assert result.code == 2
    assert "k1" in result.err
    assert list(tmp_path.iterdir()) == []


def test_a_page_that_is_not_named_so_is_refused(cli, tiny, rows, tmp_path):
    result = cli("ablate", tiny, "--data", rows, "-o", tmp_path / "a.txt")
    assert result.code == 2
    assert "must end in .html" in result.err
    assert list(tmp_path.iterdir()) == []
