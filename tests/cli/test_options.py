"""One set of options of the model and its data, read by every command that loads a model."""

from __future__ import annotations

import json
import shutil

import pytest
from support.scenes import save_rows

from autoprune.cli.app import COMMANDS
from autoprune.schedule import Schedule

WITHOUT_A_MODEL = {"calibrate", "report", "export", "presets", "dashboard", "serve", "runner"}


@pytest.fixture
def command_line(tiny, rows, schedule_file, tmp_path):
    """The arguments that a command needs, for a model."""

    def made(command: str, model=tiny, data=rows) -> list[object]:
        out = {"codebook": "out.safetensors", "ablate": "out.html"}.get(command, "out.json")
        given = {
            "apply-check": [model, schedule_file, "--data", data],
            "transfer": [schedule_file, model, "--data", data, "-o", tmp_path / out],
            "verify": [model, schedule_file, "--data", data],
            "doctor": [model, schedule_file, "--data", data],
            "compile": [model, schedule_file, "--data", data, "-o", tmp_path / "compiled"],
            "bench": [model, schedule_file, "--visual-tokens", 8, "--repeats", 1, "--warmup", 0],
        }
        return [command, *given.get(command, [model, "--data", data, *(["-o", tmp_path / out] if command in
                ("fitprune", "codebook", "ablate") else [])])]  # fmt: skip

    return made


@pytest.fixture(scope="session")
def penalised(tiny, tmp_path_factory):
    """The model with the repetition penalty that some checkpoints ship."""
    folder = tmp_path_factory.mktemp("penalised") / "model"
    shutil.copytree(tiny, folder)
    file = folder / "generation_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "repetition_penalty": 1.05}))
    return folder


@pytest.mark.parametrize("command", sorted(set(COMMANDS) - WITHOUT_A_MODEL))
def test_a_repetition_penalty_is_refused_by_every_command_in_the_same_words(cli, command_line, penalised, command):
    refused = cli(*command_line(command, penalised), "--json")
    assert refused.code == 2, refused.err
    error = refused.json["error"]
    assert error["field"] == "generation_config.repetition_penalty"
    assert error["value"] == 1.05
    assert "changes the logits" in error["message"]
    assert "--generation repetition_penalty=1.0" in error["remedy"]
    assert "generation: {repetition_penalty: 1.0}" in error["remedy"]


@pytest.mark.parametrize("command", ["verify", "apply-check", "fitprune"])
def test_the_remedy_that_the_refusal_names_works(cli, command_line, penalised, command):
    allowed = cli(*command_line(command, penalised), "--generation", "repetition_penalty=1.0", "--json")
    assert allowed.code == 0, allowed.err


@pytest.mark.parametrize("command", sorted(set(COMMANDS) - WITHOUT_A_MODEL))
def test_every_command_reads_the_options_of_a_model(cli, command_line, command):
    for option, value, said in [
        ("--dtype", "int8", "--dtype"),
        ("--device", "cuda:77", "not available"),
        ("--attn-implementation", "nonsense", "no such attention kernel"),
        ("--processor", "max_pixel=1", "no such setting"),
        ("--generation", "repetition_penality=1", "did you mean 'repetition_penalty'"),
        ("--generation", "repetition_penalty", "is not KEY=VALUE"),
    ]:
        refused = cli(*command_line(command), option, value)
        assert refused.code == 2, (option, refused.err)
        assert said in refused.err


@pytest.mark.parametrize("command", sorted(set(COMMANDS) - WITHOUT_A_MODEL - {"bench"}))
def test_every_command_reads_the_options_of_its_data(cli, command_line, command):
    for option, value, said in [
        ("--split", "test", "a file has only the split 'train'"),
        ("--data-config", "main", "a file has no configurations"),
        ("--columns", "question=prompt", "no such field"),
        ("--columns", "prompt=question", "no such column"),
    ]:
        refused = cli(*command_line(command), option, value)
        assert refused.code == 2, (option, refused.err)
        assert said in refused.err


def test_columns_of_other_names_are_read(cli, tiny, schedule_file, tmp_path):
    path = save_rows(tmp_path, 4)
    renamed = [{"question" if k == "prompt" else k: v for k, v in json.loads(row).items()}
               for row in path.read_text().splitlines()]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in renamed))
    read = cli("verify", tiny, schedule_file, "--data", path, "--columns", "prompt=question", "--json")
    assert read.code == 0, read.err
    assert read.json["samples"] == 4


def test_another_seed_draws_other_rows(cli, tiny, rows, schedule_file):
    drawn = [
        cli("apply-check", tiny, schedule_file, "--data", rows, "--samples", 1, "--seed", seed, "--json").json
        for seed in (0, 0, 3)
    ]
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_setting_of_the_processor_changes_what_the_model_sees(cli, tiny, schedule_file):
    changes = [
        cli("apply-check", tiny, schedule_file, *more, "--json").json["max_logit_change"]
        for more in ([], ["--processor", "do_normalize=true"], ["--processor", "do_normalize=false"])
    ]
    assert changes[0] == changes[1] != changes[2]


def test_options_of_data_without_data_are_refused(cli, tiny, schedule_file):
    refused = cli("apply-check", tiny, schedule_file, "--split", "test")
    assert refused.code == 2
    assert "add --data" in refused.err


def test_a_kernel_that_was_asked_for_runs(cli, tiny, schedule_file):
    found = cli("doctor", tiny, schedule_file, "--attn-implementation", "eager", "--json")
    assert found.json["kernel"] == "eager"


def with_evidence(path, **evidence):
    schedule = Schedule.load(path)
    Schedule(stages=schedule.stages, evidence=evidence).save(path)


def test_a_schedule_measured_in_another_dtype_says_so(cli, tiny, rows, schedule_file):
    few = ("verify", tiny, schedule_file, "--data", rows, "--samples", 2)
    with_evidence(schedule_file, dtype="bfloat16", device="cuda")
    found = cli(*few, "--json").json
    assert (found["dtype"], found["device"]) == ("float32", "cpu")
    assert found["differs"] == {
        "dtype": "measured in bfloat16, verified in float32", "device": "measured in cuda, verified in cpu",
    }  # fmt: skip
    half = cli(*few, "--dtype", "bfloat16")
    assert "measured in cuda, verified in cpu" in half.out
    assert "bfloat16" not in half.out


def test_schedules_tell_what_they_were_measured_in(cli, tiny, rows, tmp_path):
    file = tmp_path / "vtw.json"
    assert cli("sweep", tiny, "--data", rows, "--dtype", "bfloat16", "-o", file, "--json").code == 0
    evidence = Schedule.load(file).evidence
    assert (evidence["dtype"], evidence["device"]) == ("bfloat16", "cpu")


def test_answers_are_as_long_as_in_the_evidence(cli, tiny, rows, schedule_file):
    few = ("verify", tiny, schedule_file, "--data", rows, "--samples", 2)
    assert cli(*few, "--json").json["max_new_tokens"] == 32
    with_evidence(schedule_file, max_new_tokens=5)
    assert cli(*few, "--json").json["max_new_tokens"] == 5
    assert cli(*few, "--max-new-tokens", 3, "--json").json["max_new_tokens"] == 3
