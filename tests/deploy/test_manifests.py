"""Everything in deploy/ is valid by its own schema, and agrees with the code and with each other."""

import ast
import importlib
import inspect
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
import warnings
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import click
import jsonschema
import kubernetes_validate
import psycopg2
import pytest
from check_jsonschema.builtin_schemas import get_builtin_schema
from dvc.config import Config
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from ruamel.yaml import YAML

from deploy.server.settings import Settings
from pipeline import telemetry
from pipeline.cli.main import main as cli
from pipeline.runs import prefect_server
from tests import services
from tools import image_locks

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
LOCK = dict(line.split("==") for line in (ROOT / "requirements.lock").read_text().split())
KUBERNETES = "1.37"
OWN = {f"volvae-{target}" for target in ("services", "pipeline", "server")}


def read_all(path: Path) -> list[dict]:
    return [document for document in YAML(typ="safe").load_all(path) if document]


def read(path: Path) -> dict:
    (document,) = read_all(path)
    return document


COMPOSE = read(DEPLOY / "compose.yaml")
SERVICES: dict[str, dict] = COMPOSE["services"]
PREFECT = read(DEPLOY / "prefect.yaml")
KUSTOMIZATION = read(DEPLOY / "kustomization.yaml")
WORK_POOL = json.loads((DEPLOY / "kubernetes/work-pool.json").read_text())
MANIFESTS = [document for path in sorted((DEPLOY / "kubernetes").glob("*.yaml")) for document in read_all(path)]


def work_pool_job() -> dict:
    """The job that the work pool makes, its variables filled in."""
    text = json.dumps(WORK_POOL["job_configuration"]["job_manifest"])
    env = [
        {"name": name, "value": value} for name, value in WORK_POOL["variables"]["properties"]["env"]["default"].items()
    ]
    for name, value in {"command": ["prefect"], "env": env, "labels": {}}.items():
        text = text.replace(f'"{{{{ {name} }}}}"', json.dumps(value))
    text = text.replace("{{ name }}", "run")
    for name, variable in WORK_POOL["variables"]["properties"].items():
        if variable["type"] == "string":
            text = text.replace(f"{{{{ {name} }}}}", variable.get("default", ""))
    return json.loads(text)


def pods() -> Iterator[dict]:
    """The specification of each pod."""
    for document in (*MANIFESTS, work_pool_job()):
        spec = document["spec"].get("jobTemplate", document)["spec"] if "spec" in document else {}
        if "template" in spec:
            yield spec["template"]["spec"]


def containers() -> Iterator[dict]:
    for pod in pods():
        yield from (*pod.get("initContainers", []), *pod["containers"])


def by_kind(kind: str) -> dict:
    (document,) = (document for document in MANIFESTS if document["kind"] == kind)
    return document


INFERENCE = by_kind("InferenceService")["spec"]["predictor"]["model"]


def stages() -> dict[str, list[tuple[str, str]]]:
    """The stages of the Dockerfile, each a list of instructions with the stage that it stands on first."""
    text = re.sub(r"^\s*#.*\n", "", (DEPLOY / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    found: dict[str, list[tuple[str, str]]] = {}
    (default,) = re.findall(r"^ARG BASE=(.*)$", text, re.MULTILINE)
    for line in filter(None, map(str.strip, text.splitlines())):
        word, rest = line.split(maxsplit=1)
        if word == "FROM":
            base, name = rest.split(" AS ")
            found[name] = [(word, base.replace("${BASE}", default))]
        elif found:
            found[name].append((word, " ".join(rest.split())))
    return found


STAGES = stages()


def environment(stage: str) -> dict[str, str]:
    """The variables of an image, those of the stages below included."""
    base = STAGES[stage][0][1]
    below = environment(base) if base in STAGES else {}
    own = [word for name, rest in STAGES[stage] if name == "ENV" for word in shlex.split(rest)]
    return {**below, **dict(word.split("=", 1) for word in own)}


def image_command(stage: str) -> list[str]:
    (command,) = (json.loads(rest) for name, rest in STAGES[stage] if name == "CMD")
    return command


def own_image(service: dict) -> bool:
    return service["image"].partition(":")[0] in OWN


def command_of(name: str) -> list[str]:
    return SERVICES[name].get("command") or image_command(SERVICES[name]["build"]["target"])


# --- each file by its own schema ---


@pytest.mark.parametrize("name", ["compose.yaml", "compose.gpu.yaml"])
def test_compose_file_follows_the_compose_specification(name: str) -> None:
    schema = get_builtin_schema("vendor.compose-spec")
    jsonschema.validators.validator_for(schema)(schema).validate(read(DEPLOY / name))


def test_manifests_follow_the_schemas_of_kubernetes() -> None:
    job = work_pool_job()
    for name in ("completions", "parallelism"):
        del job["spec"]["template"]["spec"][name]  # prefect-kubernetes insists on them here, where nobody reads them
    for document in (*(m for m in MANIFESTS if m["kind"] != "InferenceService"), job):
        kubernetes_validate.validate(document, KUBERNETES, strict=True)


def test_dockerfile_passes_hadolint() -> None:
    result = subprocess.run(["hadolint", DEPLOY / "Dockerfile"], capture_output=True, text=True, check=False)
    assert result.stdout == ""
    assert result.returncode == 0


@pytest.mark.slow
def test_prefect_file_has_what_prefect_reads() -> None:
    """Prefect's models ignore what they do not know, so a slip would pass them in silence."""
    from prefect.cli.deploy import _models as models  # noqa: PLC0415  slow to import, as all of prefect
    from prefect.client.schemas.schedules import CronSchedule  # noqa: PLC0415
    from prefect.deployments.steps import run_shell_script, set_working_directory  # noqa: PLC0415
    from prefect.workers.process import ProcessWorker  # noqa: PLC0415

    assert set(PREFECT) <= {field.alias or name for name, field in models.PrefectYamlModel.model_fields.items()} | {
        "definitions"
    }
    models.PrefectYamlModel.model_validate(PREFECT)
    for step, function in zip(PREFECT["pull"], (run_shell_script, set_working_directory), strict=True):
        ((name, inputs),) = step.items()
        assert name == f"prefect.deployments.steps.{function.__name__}"
        assert set(inputs) <= set(inspect.signature(function).parameters)
    for deployment in PREFECT["deployments"]:
        assert set(deployment) <= set(models.DeploymentConfig.model_fields)
        assert set(deployment["work_pool"]) <= set(models.WorkPoolConfig.model_fields)
        assert set(deployment["concurrency_limit"]) <= set(models.ConcurrencyLimitSpec.model_fields)
        assert deployment["concurrency_limit"] == {"limit": 1, "collision_strategy": "CANCEL_NEW"}
        for schedule in deployment["schedules"]:
            CronSchedule(**schedule)
    process = ProcessWorker.get_default_base_job_template()["variables"]["properties"]
    assert set(PREFECT["deployments"][0]["work_pool"]["job_variables"]) <= set(process)
    assert PREFECT["prefect-version"] == LOCK["prefect"]


def test_dvc_reads_its_configuration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DVC_SYSTEM_CONFIG_DIR", str(DEPLOY / "dvc"))
    monkeypatch.setenv("DVC_GLOBAL_CONFIG_DIR", str(tmp_path))
    config = Config()
    (bucket,) = re.fullmatch(r"s3://(\w+)", config["remote"][config["core"]["remote"]]["url"]).groups()
    (buckets,) = (word.removeprefix("-bucket=").split(",") for word in command_of("s3") if word.startswith("-bucket="))
    assert bucket in buckets
    (artifacts,) = (word for word in command_of("mlflow") if word.startswith("--artifacts-destination="))
    assert artifacts.removeprefix("--artifacts-destination=s3://") in buckets
    assert Path(config["cache"]["dir"]).parent == Path(
        PREFECT["deployments"][0]["work_pool"]["job_variables"]["working_dir"]
    )


@pytest.mark.slow
def test_every_database_has_its_own_owner(tmp_path: Path) -> None:
    with services.postgres(tmp_path) as address:
        port = address.rpartition(":")[2].partition("/")[0]
        settings = {"PGHOST": "127.0.0.1", "PGPORT": port, "PGDATABASE": "postgres", "POSTGRES_USER": "volvae"}
        passwords = {"MLFLOW_DATABASE_PASSWORD": "one", "PREFECT_DATABASE_PASSWORD": "two"}
        script = DEPLOY / "postgres/databases.sh"
        subprocess.run([script], env={**os.environ, **settings, **passwords}, check=True, capture_output=True)
        for user in ("mlflow", "prefect"):
            assert services.connects(f"postgresql://{user}@127.0.0.1:{port}/{user}")
        assert not services.connects(f"postgresql://mlflow@127.0.0.1:{port}/prefect")
        assert not services.connects(f"postgresql://prefect@127.0.0.1:{port}/mlflow")
        connection = psycopg2.connect(f"postgresql://prefect@127.0.0.1:{port}/prefect")
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM pg_extension WHERE extname = 'pg_trgm'")
            assert cursor.fetchone() == (1,)
        connection.close()


# --- commands ---


START = r"(?:^ *\$? ?|&& |/bin/|docker compose (?:exec|run) (?:--rm )?(?:worker|mlflow|prefect) (?:sh -c ')?)"


def in_documents() -> Iterator[list[str]]:
    """Commands in the code of the documents."""
    for path in (DEPLOY / "README.md", ROOT / "docs/runbook.md"):
        text = path.read_text("utf-8")
        blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
        lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
        lines += re.findall(r"^    .*", text, re.MULTILINE)
        lines += re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))
        for line in lines:
            for command in re.findall(rf"{START}((?:volvae|mlflow|prefect) [^#|>&;']*)", line):
                yield shlex.split(command)


def in_shell(script: str) -> Iterator[list[str]]:
    return (shlex.split(line) for line in map(str.strip, script.splitlines()) if line)


def commands() -> list[list[str]]:
    found = [image_command("server"), *in_documents()]
    for name, service in SERVICES.items():
        command = command_of(name) if own_image(service) else []
        found += in_shell(command[-1]) if command[:1] == ["sh"] else [command]
    for container in containers():
        command = container.get("command", [])
        found += in_shell(command[-1]) if command[:1] == ["sh"] else [command]
    return [command for command in found if command[:1] in (["volvae"], ["mlflow"], ["prefect"])]


def by_program(program: str) -> list[list[str]]:
    found = {tuple(command) for command in commands() if command[0] == program}
    assert found
    return [list(command) for command in sorted(found)]


def parse(command: click.Command, words: list[str]) -> None:
    """Fail where click would."""
    while isinstance(command, click.Group):
        name, *words = words
        assert name in command.commands, name
        command = command.commands[name]
    command.make_context(command.name, words)


@pytest.mark.parametrize("command", by_program("volvae"), ids=shlex.join)
def test_volvae_knows_the_command(command: list[str]) -> None:
    parse(cli, command[1:])


@pytest.mark.slow
@pytest.mark.parametrize("command", by_program("mlflow"), ids=shlex.join)
def test_mlflow_knows_the_command(command: list[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's, of its own type hints
        mlflow = importlib.import_module("mlflow.cli").cli
    parse(mlflow, command[1:])


@pytest.mark.slow
@pytest.mark.parametrize("command", by_program("prefect"), ids=shlex.join)
def test_prefect_knows_the_command(command: list[str]) -> None:
    from prefect.cli._app import _app as prefect  # noqa: PLC0415  slow to import

    words = [word for word in command[1:] if word != "--no-prompt"]  # an option of all commands, read before them
    prefect.parse_args(words, print_error=False, exit_on_error=False)


def test_prefect_names_the_flow_and_each_of_its_parameters() -> None:
    for deployment in PREFECT["deployments"]:
        path, name = deployment["entrypoint"].split(":")
        (flow,) = (
            node
            for node in ast.parse((ROOT / path).read_text("utf-8")).body
            if isinstance(node, ast.FunctionDef) and node.name == name
        )
        arguments = [*flow.args.args, *flow.args.kwonlyargs]
        types = {argument.arg: ast.unparse(argument.annotation) for argument in arguments if argument.annotation}
        given = {name: type(value) for name, value in deployment["parameters"].items()}
        assert set(given) == set(types)
        for name, kind in given.items():
            assert ("None" if kind is type(None) else kind.__name__) in types[name].split(" | "), name


def test_what_is_deployed_runs_at_the_same_time_everywhere() -> None:
    job = by_kind("CronJob")["spec"]
    assert {schedule["cron"] for d in PREFECT["deployments"] for schedule in d["schedules"]} == {job["schedule"]}
    assert job["concurrencyPolicy"] == "Forbid"


# --- addresses ---


def bound(name: str) -> int:
    """The port that a service's command binds."""
    words = command_of(name)
    given = [word for word in words if re.match(r"--?(?:s3\.)?port=", word)]
    if given:
        return int(given[0].partition("=")[2])
    return int(environment(SERVICES[name]["build"]["target"])["VOLVAE_PORT"])


def test_ports_are_those_that_the_commands_bind() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert set(published) == {"mlflow", "prefect", "server"}
    for name, ports in published.items():
        assert ports == [f"127.0.0.1:{bound(name)}:{bound(name)}"]
    text = "".join((DEPLOY / name).read_text() for name in ("compose.yaml", "prefect.yaml"))
    addresses = re.findall(rf"(?<![-\w])({'|'.join(SERVICES)}):(\d{{4}})\b", text)
    assert {name for name, _ in addresses} == {"mlflow", "prefect", "s3"}
    for name, port in addresses:
        assert int(port) == bound(name)
    for name in ("s3", "mlflow", "prefect"):
        assert f"127.0.0.1:{bound(name)}/" in shlex.join(SERVICES[name]["healthcheck"]["test"])
    (exposed,) = (int(rest) for word, rest in STAGES["server"] if word == "EXPOSE")
    assert exposed == bound("server")


def test_mlflow_answers_only_to_the_names_that_it_is_called_by() -> None:
    (allowed,) = (word for word in command_of("mlflow") if word.startswith("--allowed-hosts="))
    assert set(allowed.partition("=")[2].split(",")) == {
        f"{name}:{bound('mlflow')}" for name in ("mlflow", "localhost", "127.0.0.1")
    }
    assert SERVICES["mlflow"]["environment"]["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"


def test_prefect_answers_only_to_its_own_pages_and_to_clients_with_the_password() -> None:
    password = "volvae:${PREFECT_PASSWORD:?}"
    own = [f"http://{host}:{bound('prefect')}" for host in ("127.0.0.1", "localhost")]
    settings = prefect_server.protection(password, *own).items()
    assert settings <= SERVICES["prefect"]["environment"].items()
    found = {name: service.get("environment", {}) for name, service in SERVICES.items()}
    clients = {name: variables for name, variables in found.items() if "PREFECT_API_URL" in variables}
    assert set(clients) == {"deployment", "worker"}
    for variables in clients.values():
        assert variables["PREFECT_API_AUTH_STRING"] == password


def test_kubernetes_asks_the_server_where_it_listens() -> None:
    (container,) = by_kind("Deployment")["spec"]["template"]["spec"]["containers"]
    (port,) = container["ports"]
    command = container["command"]
    assert command[command.index("--port") + 1] == str(port["containerPort"])
    (service,) = by_kind("Service")["spec"]["ports"]
    assert service["targetPort"] == port["name"]
    code = "".join(path.read_text("utf-8") for path in DEPLOY.rglob("*.py"))
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        request = container[probe]["httpGet"]
        assert request["port"] == port["name"]
        assert f'"{request["path"]}"' in code
    (check,) = (rest for word, rest in STAGES["server"] if word == "HEALTHCHECK")
    assert f"127.0.0.1:{port['containerPort']}{container['readinessProbe']['httpGet']['path']}" in check


def test_manifests_name_each_other_rightly() -> None:
    labels = by_kind("Deployment")["spec"]["template"]["metadata"]["labels"]
    for selector in (
        by_kind("Service")["spec"]["selector"],
        by_kind("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
    ):
        assert selector == labels
    target = by_kind("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", by_kind("Deployment")["metadata"]["name"])
    assert KUSTOMIZATION["namespace"] == by_kind("Namespace")["metadata"]["name"]
    assert KUSTOMIZATION["namespace"] == WORK_POOL["variables"]["properties"]["namespace"]["default"]
    claims = {volume["persistentVolumeClaim"]["claimName"] for pod in pods() for volume in pod["volumes"]
              if "persistentVolumeClaim" in volume}  # fmt: skip
    assert claims == {by_kind("PersistentVolumeClaim")["metadata"]["name"]}
    for pod in pods():
        volumes = {volume["name"] for volume in pod["volumes"]}
        for container in (*pod.get("initContainers", []), *pod["containers"]):
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
    applied = {*KUSTOMIZATION["resources"], "kubernetes/kserve.yaml"}
    assert applied == {str(path.relative_to(DEPLOY)) for path in DEPLOY.glob("kubernetes/*.yaml")}


def test_work_pool_has_each_variable_that_its_job_asks_for() -> None:
    asked = set(re.findall(r"{{ (\w+) }}", json.dumps(WORK_POOL["job_configuration"])))
    assert asked == set(WORK_POOL["variables"]["properties"])


# --- variables ---


def test_variables_of_the_server_are_those_that_it_reads() -> None:
    files = [DEPLOY / name for name in ("Dockerfile", "compose.yaml", ".env.example")]
    files += [*DEPLOY.glob("kubernetes/*"), DEPLOY / "README.md", ROOT / "docs/runbook.md"]
    used = {name for path in files for name in re.findall(r"\bVOLVAE_[A-Z_]+", path.read_text("utf-8"))}
    code = "".join(path.read_text("utf-8") for path in (*DEPLOY.rglob("*.py"), *(ROOT / "pipeline/cli").glob("*.py")))
    serve = cli.commands["serve"]
    options = {f"VOLVAE_{parameter.name.upper()}" for parameter in serve.params}
    assert used
    assert used <= options | set(re.findall(r"\bVOLVAE_[A-Z_]+", code))


def test_compose_asks_for_what_the_example_environment_lists() -> None:
    lines = (DEPLOY / ".env.example").read_text().splitlines()
    example = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    asked = re.findall(r"\$\{(\w+)([^}]*)\}", (DEPLOY / "compose.yaml").read_text())
    assert {name for name, _ in asked} == set(example)
    assert {rest for _, rest in asked} == {":?"}  # compose says which one is missing
    assert example["REPOSITORY"] in {volume.split(":")[1] for volume in SERVICES["worker"]["volumes"]}


def test_variables_of_the_prefect_file_are_given_where_it_is_deployed() -> None:
    asked = set(re.findall(r"{{ \$(\w+) }}", (DEPLOY / "prefect.yaml").read_text()))
    settings = next(g for g in KUSTOMIZATION["configMapGenerator"] if g["name"] == "settings")
    assert asked <= set(SERVICES["deployment"]["environment"])
    assert asked <= {literal.partition("=")[0] for literal in settings["literals"]}


def test_every_container_has_every_telemetry_switch() -> None:
    for target in ("services", "pipeline", "server"):
        assert telemetry.OFF.items() <= environment(target).items()
    for service in SERVICES.values():
        assert service["env_file"] == "telemetry.env"
    telemetries = [g for g in KUSTOMIZATION["configMapGenerator"] if g["name"] == "telemetry"]
    assert [g["envs"] for g in telemetries] == [["telemetry.env"]]
    assert KUSTOMIZATION["generatorOptions"]["disableNameSuffixHash"]  # work-pool.json and kserve.yaml know the name
    for container in (*containers(), INFERENCE):
        assert {"configMapRef": {"name": "telemetry"}} in container["envFrom"]


def test_no_secret_is_in_the_files() -> None:
    secret = re.compile(r"PASSWORD|SECRET|TOKEN|ACCESS_KEY|AUTH_STRING")
    for line in (DEPLOY / ".env.example").read_text().splitlines():
        name, _, value = line.partition("=")
        assert not (secret.search(name) and value), line
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            assert not secret.search(name) or re.fullmatch(r"(\w+:)?\$\{\w+:\?\}", value), name
            assert re.search(r"://\w+:[^$@]+@", str(value)) is None, name
    for container in containers():
        for variable in container.get("env", []):
            assert not secret.search(variable["name"]) or set(variable["valueFrom"]) == {"secretKeyRef"}
    for path in ("deploy/.env", "deploy/.env.example"):
        ignored = subprocess.run(["git", "check-ignore", "--quiet", path], cwd=ROOT, check=False).returncode == 0
        assert ignored == (path == "deploy/.env")


# --- images ---


def images() -> Iterator[str]:
    yield from (service["image"] for service in SERVICES.values())
    yield from (service["image"] for service in read(DEPLOY / "compose.gpu.yaml")["services"].values())
    yield from (f"{image['name']}:{image['newTag']}" for image in KUSTOMIZATION["images"])
    yield WORK_POOL["variables"]["properties"]["image"]["default"]
    for deployment in PREFECT["deployments"]:
        if "image" in deployment["work_pool"].get("job_variables", {}):
            yield deployment["work_pool"]["job_variables"]["image"]
    yield from (stage[0][1] for stage in STAGES.values() if stage[0][1] not in STAGES)


def test_images_have_a_version_and_ours_is_that_of_the_project() -> None:
    for image in images():
        name, _, tag = image.partition(":")
        assert re.match(r"\d+\.\d+", tag), image
        if name in OWN:
            assert tag.removesuffix("-gpu") == PROJECT["version"]
    assert re.fullmatch(r"\d\d\.\d\d-py3", INFERENCE["runtimeVersion"])
    named = {image["name"] for image in KUSTOMIZATION["images"]}
    assert {c["image"] for d in MANIFESTS if d["kind"] in ("CronJob", "Deployment") for c in containers_of(d)} == named


def containers_of(document: dict) -> list[dict]:
    pod = document["spec"].get("jobTemplate", document)["spec"]["template"]["spec"]
    return [*pod.get("initContainers", []), *pod["containers"]]


def test_images_of_our_own_are_built_from_the_stage_of_their_name() -> None:
    for service in SERVICES.values():
        if own_image(service):
            build = service["build"]
            assert service["image"].startswith(f"volvae-{build['target']}:")
            assert build["target"] in STAGES
            assert (DEPLOY / build["context"] / build["dockerfile"]).samefile(DEPLOY / "Dockerfile")
    for name, service in read(DEPLOY / "compose.gpu.yaml")["services"].items():
        assert service["image"] == f"{SERVICES[name]['image']}-gpu"
        assert service["build"]["args"] == {"RUNTIME": "gpu"}


def test_files_that_are_copied_into_an_image_exist_and_reach_the_builder() -> None:
    allowed = set(re.findall(r"^!(.+)$", (DEPLOY / "Dockerfile.dockerignore").read_text(), re.MULTILINE))
    copied = {source for stage in STAGES.values() for word, rest in stage if word == "COPY" and "--from" not in rest
              for source in rest.split()[:-1]}  # fmt: skip
    assert {source.split("/")[0] for source in copied} == allowed
    for source in copied:
        for runtime in ("cpu", "gpu"):
            assert (ROOT / source.replace("$RUNTIME", runtime)).exists()
    assert os.access(DEPLOY / "clone.sh", os.X_OK)
    for stage in STAGES.values():
        for word, rest in stage:
            if word == "COPY" and "--from=" in rest:
                assert re.match(r"--from=(\S+)", rest)[1] in STAGES


def test_images_stand_on_the_python_that_their_packages_are_for() -> None:
    (version,) = re.match(r"python:([\d.]+)-", STAGES["base"][0][1]).groups()
    assert version in SpecifierSet(PROJECT["requires-python"])
    assert version.startswith(f"{image_locks.PYTHON}.")


def packages(image: str) -> dict[str, str]:
    """Names and versions in the lock of an image, each of which has a hash."""
    text = (ROOT / image_locks.FOLDER / f"{image}.txt").read_text("utf-8")
    found = re.findall(r"^(\S+)==(\S+) \\\n    --hash=sha256:[0-9a-f]{64}", text, re.MULTILINE)
    assert len(found) == text.count("==")
    return dict(found)


@pytest.mark.parametrize("image", [*image_locks.IMAGES, "sources"])
def test_packages_of_an_image_are_those_of_the_lock(image: str) -> None:
    """Others are there too, such as the CUDA libraries."""
    lock = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in LOCK.items()}
    found = packages(image)
    shared = found.keys() & lock.keys()
    assert shared
    for name in shared:
        assert found[name].removesuffix("+cpu") == lock[name], name


def test_each_install_is_by_hash() -> None:
    """Of what comes from elsewhere; what is left was built here, from sources with a hash."""
    runs = [rest for stage in STAGES.values() for word, rest in stage if word == "RUN"]
    commands = [command for run in runs for command in run.split("&&") if re.search(r"/pip (install|wheel)", command)]
    assert commands
    for command in commands:
        assert "--require-hashes" in command or re.search(
            r"pip (install (/\w+/\*\.whl ?)+|wheel .* \.)\s*$", command
        ), command
    assert ("ENV", "PIP_NO_DEPS=true") in STAGES["build"]  # nothing comes beside what the lock names


@pytest.mark.slow
def test_image_of_the_server_has_all_that_it_imports() -> None:
    """The Dockerfile's own check of this, where modules of packages outside the image's lock cannot be imported."""
    check = next(rest for word, rest in STAGES["build-server"] if word == "RUN" and "python -c" in rest)
    found = packages("server-cpu")
    absent = {
        module
        for module, distributions in packages_distributions().items()
        if not {re.sub(r"[-_.]+", "-", name).lower() for name in distributions} & (found.keys() | {"volvae"})
    }
    assert "safetensors" in absent
    blocked = f"import sys; sys.modules.update(dict.fromkeys({sorted(absent)}))\n"
    command = [sys.executable, "-c", blocked + re.search(r'python -c "(.*)"', check)[1]]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "mlflow-skinny" in found
    assert not {"mlflow", "torch", "onnx", "pandas", "pyarrow", "scipy", "scikit-learn"} & set(found)


def test_what_the_images_need_agrees_with_the_lock() -> None:
    for name in ("requirements.txt", "requirements-server.txt"):
        for line in (DEPLOY / name).read_text().splitlines():
            if line.startswith("#"):
                continue
            requirement = Requirement(line)
            if requirement.specifier:
                assert LOCK.get(requirement.name, str(requirement.specifier)[2:]) in requirement.specifier
            else:
                assert requirement.name.lower() in {each.lower() for each in LOCK}


# --- hardening ---


def test_services_of_compose_are_locked_down() -> None:
    for name, service in SERVICES.items():
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["restart"] == ("on-failure" if name == "deployment" else "unless-stopped")
        if own_image(service):
            assert service["read_only"]
            assert service["cap_drop"] == ["ALL"]
        if name not in ("deployment", "server"):  # one ends, the other's is in its image
            assert service["healthcheck"]["test"][0] == "CMD"
    assert set(SERVICES["postgres"]["networks"]) & set(SERVICES["server"]["networks"]) == set()


def test_users_of_images_own_nothing_of_the_system() -> None:
    (user,) = {rest for target in ("services", "pipeline", "server") for word, rest in STAGES[target] if word == "USER"}
    assert f"useradd --uid {user} " in dict(STAGES["base"])["RUN"]
    for pod in pods():
        security = pod["securityContext"]
        assert str(security["runAsUser"]) == user
        assert security["runAsNonRoot"]
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not pod["automountServiceAccountToken"]


def test_containers_of_kubernetes_are_locked_down_and_say_what_they_need() -> None:
    for container in containers():
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert set(container["resources"]["requests"]) == {"cpu", "memory"}
        assert set(container["resources"]["limits"]) == {"cpu", "memory"}


def test_no_pod_fills_the_disk_of_its_node() -> None:
    for pod in pods():
        for volume in pod["volumes"]:
            assert "persistentVolumeClaim" in volume or volume["emptyDir"]["sizeLimit"], volume["name"]


def test_runs_start_as_many_processes_as_their_limits_allow() -> None:
    """`prepare` starts one for each thread that torch counts, which without a word are the cores of the node."""
    (run,) = by_kind("CronJob")["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    (threads,) = (variable["value"] for variable in run["env"] if variable["name"] == "OMP_NUM_THREADS")
    assert threads == run["resources"]["limits"]["cpu"]
    (job,) = work_pool_job()["spec"]["template"]["spec"]["containers"]
    assert {"name": "OMP_NUM_THREADS", "value": threads} in job["env"]
    assert job["resources"] == run["resources"]


def test_an_ending_server_answers_until_nobody_calls_it() -> None:
    pod = by_kind("Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    command = container["command"]
    last = container["lifecycle"]["preStop"]["sleep"]["seconds"] + int(command[command.index("--drain") + 1])
    assert last >= 10
    assert pod["terminationGracePeriodSeconds"] > last + Settings.grace
    waits = container["startupProbe"]["periodSeconds"] * container["startupProbe"]["failureThreshold"]
    assert by_kind("Deployment")["spec"]["progressDeadlineSeconds"] > waits


def test_only_the_server_is_reached_and_no_pod_reads_the_credentials_of_its_node() -> None:
    policies = {
        document["metadata"]["name"]: document["spec"] for document in MANIFESTS if document["kind"] == "NetworkPolicy"
    }
    assert policies["all"]["podSelector"] == {}
    assert policies["all"]["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in policies["all"]  # nothing comes in
    (block,) = (rule["to"][0]["ipBlock"] for rule in policies["all"]["egress"] if "to" in rule)
    assert block["except"] == ["169.254.169.254/32"]
    assert policies["server"]["podSelector"]["matchLabels"] == by_kind("Service")["spec"]["selector"]
    (port,) = (port["port"] for rule in policies["server"]["ingress"] for port in rule["ports"])
    assert port == by_kind("Service")["spec"]["ports"][0]["targetPort"]


def test_a_run_gets_no_token_of_the_server_and_the_server_no_keys_of_the_bucket() -> None:
    def secrets(document: dict) -> set[str]:
        return set(re.findall(r"'secret(?:Key)?Ref': {'name': '(\w+)'", str(document)))

    assert secrets(by_kind("Deployment")) == {"server"}
    assert secrets(by_kind("CronJob")) == secrets(work_pool_job()) == {"retrain"}
    runbook = (ROOT / "docs/runbook.md").read_text("utf-8")
    made = dict(re.findall(r"create secret generic (\w+)((?:.*\\\n)*.*)", runbook))
    assert set(made) == {"server", "retrain"}
    assert "VOLVAE_TOKEN" in made["server"]
    assert "AWS_SECRET_ACCESS_KEY" in made["retrain"]


def test_files_that_compose_mounts_exist() -> None:
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert (DEPLOY / source).exists() if source.startswith(".") else source in COMPOSE["volumes"]


# --- documents ---


def test_index_names_every_file() -> None:
    text = (DEPLOY / "README.md").read_text("utf-8")
    tracked = subprocess.run(["git", "ls-files", "deploy"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for path in tracked.split():
        name = Path(path).relative_to("deploy")
        told = f"`{name}`" in text or any(f"`{folder}/`" in text for folder in name.parents)
        assert told or name.name == "README.md" or name.suffix in {".py", ".typed"}, name


@pytest.mark.parametrize("name", ["deploy/README.md", "docs/runbook.md"])
def test_files_that_a_document_links_exist(name: str) -> None:
    for link in re.findall(r"\]\((?!http)([^)#]+)", (ROOT / name).read_text("utf-8")):
        assert (ROOT / name).parent.joinpath(link).exists(), link
