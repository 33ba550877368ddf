"""Files that containers are started from: they fit the published schemas, and hold what keeps a service safe."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import psycopg
import pytest
import ray
import yaml
from support.compose import COMPOSE, ROOT, services
from support.postgres import Postgres

DEPLOY = ROOT / "autoprune/service/deploy"
OURS = ("ray-head", "ray-worker", "api", "runner")
VARIABLES = {"POSTGRES_PASSWORD": "p", "RAY_AUTH_TOKEN": "t", "DATA": "/data", "READER_PASSWORD": "r"}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return services(VARIABLES)


def manifests(name: str) -> list[dict[str, Any]]:
    return [dict(found) for found in yaml.safe_load_all((DEPLOY / name).read_text())]


def test_the_compose_file_fits_the_specification() -> None:
    schema = json.loads(files("check_jsonschema.builtin_schemas.vendor").joinpath("compose-spec.json").read_text())
    content = yaml.safe_load(COMPOSE.read_text())
    jsonschema.validate(content, schema)
    content["services"]["api"]["restarts"] = "always"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(content, schema)


@pytest.mark.parametrize("variable", ["POSTGRES_PASSWORD", "RAY_AUTH_TOKEN", "DATA"])
def test_no_secret_has_a_default(variable: str) -> None:
    with pytest.raises(KeyError, match=variable):
        services({name: value for name, value in VARIABLES.items() if name != variable})


def test_only_the_api_can_be_reached_and_from_this_machine_alone(compose: dict[str, Any]) -> None:
    published = {name: one["ports"] for name, one in compose.items() if one.get("ports") and not one.get("profiles")}
    assert published == {"api": ["127.0.0.1:8321:8321"]}
    assert all(port.startswith("127.0.0.1:") for one in compose.values() for port in one.get("ports", []))
    assert yaml.safe_load(COMPOSE.read_text())["networks"]["inside"]["internal"] is True
    assert [name for name, one in compose.items() if "outside" in one["networks"]] == ["api", "dashboard"]


def test_containers_are_limited_checked_and_not_root(compose: dict[str, Any]) -> None:
    for name, one in compose.items():
        assert one["init"] is True, name
        assert one["healthcheck"]["test"], name
        assert {"cpus", "memory"} <= one["deploy"]["resources"]["limits"].keys(), name
        if name != "postgres":  # its own entry point leaves root
            assert one["user"] == "10001:10001", name
            assert one["cap_drop"] == ["ALL"], name
    assert all("shm_size" in compose[name] for name in ("ray-head", "ray-worker", "runner")), "Ray's objects lie there"
    assert "USER 10001:10001" in (ROOT / "autoprune/service/Dockerfile").read_text()


def test_the_ports_of_ray_are_fixed_and_apart(compose: dict[str, Any]) -> None:
    for name in ("ray-head", "ray-worker", "runner"):
        line = compose[name]["command"]
        line = line if isinstance(line, str) else line[-1]
        ports = {key: int(port) for key, port in re.findall(r"--([a-z-]*port)=(\d+)", line)}
        low, high = ports.pop("min-worker-port"), ports.pop("max-worker-port")
        assert len(set(ports.values())) == len(ports), name
        assert not [key for key, port in ports.items() if low <= port <= high], name
    assert "--num-cpus=0" in compose["runner"]["command"][-1], "no worker beside the drivers"
    assert compose["runner"]["environment"]["RAY_AUTH_MODE"] == "token"


def test_what_the_image_copies_is_there_and_goes_with_it() -> None:
    docker = (ROOT / "autoprune/service/Dockerfile").read_text()
    copied = [word for line in re.findall(r"^COPY (.*) \S+$", docker, re.M) for word in line.split()]
    assert "autoprune" in copied
    ignored = (ROOT / "autoprune/service/Dockerfile.dockerignore").read_text().splitlines()
    for name in copied:
        assert (ROOT / name).exists()
        assert f"!{name}" in ignored, f"{name} would not be sent to the builder"
    assert re.search(r"^torch==", (ROOT / "constraints.txt").read_text(), re.M), "what its grep looks for"
    assert (
        f"FROM python:{tomllib.loads((ROOT / 'pyproject.toml').read_text())['tool']['mypy']['python_version']}"
        in docker
    )


@pytest.mark.parametrize(
    "manifest", manifests("service.yaml"), ids=lambda one: f"{one['kind']} {one['metadata']['name']}"
)
def test_manifests_fit_the_schemas_of_kubernetes(manifest: dict[str, Any]) -> None:
    kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)
    if manifest["kind"] == "Deployment":
        assert_safe(manifest["spec"]["template"]["spec"])
        # Kubernetes' own variables of a Service named autoprune begin as ours do, and are none.
        assert manifest["spec"]["template"]["spec"]["enableServiceLinks"] is False


def test_the_ray_cluster_has_a_token_and_the_tested_ray() -> None:
    (cluster,) = manifests("raycluster.yaml")
    assert (cluster["apiVersion"], cluster["kind"]) == ("ray.io/v1", "RayCluster")
    spec = cluster["spec"]
    assert spec["authOptions"] == {"mode": "token", "secretName": "autoprune-ray"}
    assert spec["rayVersion"] == ray.__version__
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    for group in groups:
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, **group["template"]}
        kubernetes_validate.validate(pod, kubernetes_validate.latest_version(), strict=True)
        assert_safe(group["template"]["spec"])
    runner = next(one for one in manifests("service.yaml") if one["metadata"]["name"] == "autoprune-runner")
    variables = {one["name"]: one for one in runner["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert variables["RAY_ADDRESS"]["value"] == f"{cluster['metadata']['name']}-head-svc:6379"
    assert variables["RAY_AUTH_TOKEN"]["valueFrom"]["secretKeyRef"] == {"name": "autoprune-ray", "key": "auth_token"}


def assert_safe(pod: dict[str, Any]) -> None:
    assert pod["securityContext"]["runAsNonRoot"] is True
    for container in pod["containers"]:
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["resources"]["limits"].keys() >= {"cpu", "memory"}


def test_the_role_of_the_dashboard_reads_and_cannot_write(postgres: Postgres, tmp_path: Path) -> None:
    url = postgres.new_database()
    name = url.rpartition("/")[2]
    given = {
        "PATH": f"{postgres.programs}:/usr/bin:/bin", "PGHOST": "127.0.0.1", "PGPORT": str(postgres.port),
        "POSTGRES_USER": "autoprune", "POSTGRES_DB": name, "READER_PASSWORD": "it's",
    }  # fmt: skip
    subprocess.run([DEPLOY / "reader.sh"], env={**given, "READER_PASSWORD": ""}, check=True)
    subprocess.run([DEPLOY / "reader.sh"], env=given, check=True)
    with psycopg.connect(url.replace("+psycopg", "")) as owner:
        owner.execute("CREATE TABLE later (n INT)")
        owner.execute("INSERT INTO later VALUES (7)")
    with psycopg.connect(url.replace("+psycopg", "").replace("autoprune@", "autoprune_reader@")) as reader:
        assert reader.execute("SELECT n FROM later").fetchone() == (7,)
        reader.execute("SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE")
        reader.commit()
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            reader.execute("DELETE FROM later")
