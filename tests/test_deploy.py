"""The container files: what hardens them, what keeps them small, and that their linters agree."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from app.settings import Settings

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES = COMPOSE["services"]


def instructions() -> list[list[str]]:
    """The Dockerfile's instructions, each as its keyword and its text, continued lines joined."""
    lines = [line for line in DOCKERFILE.splitlines() if line and not line.startswith("#")]
    return [line.split(maxsplit=1) for line in re.sub(r"\\\n", "", "\n".join(lines)).splitlines()]


def final_stage() -> list[list[str]]:
    every = instructions()
    return every[max(i for i, (word, _) in enumerate(every) if word == "FROM") :]


def published(service: dict) -> str:
    """The address a service is published at, with the defaults of its variables."""
    (port,) = service["ports"]
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", port)


def test_hadolint_finds_nothing():
    result = subprocess.run(
        [BIN / "hadolint", ROOT / "Dockerfile"], capture_output=True, text=True, check=False
    )

    assert (result.returncode, result.stdout) == (0, "")


def test_the_compose_file_is_valid():
    command = [
        BIN / "check-jsonschema",
        "--builtin-schema",
        "vendor.compose-spec",
        ROOT / "docker-compose.yml",
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False)

    assert result.returncode == 0, result.stdout


def test_the_image_runs_as_a_numbered_user_who_is_not_root():
    users = [text for word, text in final_stage() if word == "USER"]

    assert users
    assert all(int(user.split(":")[0]) >= 1000 for user in users)


def test_the_image_asks_the_command_for_its_health():
    (check,) = [text for word, text in final_stage() if word == "HEALTHCHECK"]

    assert check.endswith('CMD ["gpu-kmeans", "health"]')


def test_the_server_is_the_first_process_so_that_signals_reach_it():
    (command,) = [text for word, text in final_stage() if word == "CMD"]

    assert command.startswith('["gpu-kmeans", "serve"')


def test_the_final_stage_installs_no_package():
    commands = " ".join(text for word, text in final_stage() if word == "RUN")

    assert not re.search(r"\b(apt|apt-get|pip|gcc|build-essential)\b", commands)


def test_the_image_is_labelled_with_its_version_and_its_source():
    (labels,) = [text for word, text in final_stage() if word == "LABEL"]
    arguments = dict(text.split("=") for word, text in final_stage() if word == "ARG")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert arguments["VERSION"] == project["version"]
    assert 'image.version="${VERSION}"' in labels
    assert 'image.revision="${REVISION}"' in labels
    assert f'image.licenses="{project["license"]}"' in labels


def test_the_kernels_run_as_what_they_were_compiled_for():
    """Another processor, or other settings, and numba would compile them all again."""
    wanted = re.compile(r"\b(NUMBA_\w+|MPLCONFIGDIR)=(\S*)")
    builder, final = (wanted.findall(stage) for stage in DOCKERFILE.split("\nFROM ")[1:])

    assert {"NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES", "NUMBA_CACHE_DIR"} < dict(builder).keys()
    assert builder == final
    assert len(re.findall(r"^ARG CPU=x86-64-v3$", DOCKERFILE, re.MULTILINE)) == 2


def test_every_installation_is_pinned_or_brings_no_dependency():
    installs = re.findall(r"pip install[^;&]*", DOCKERFILE)

    assert installs
    assert all("--constraint constraints.txt" in each or "--no-deps" in each for each in installs)


def test_the_base_image_has_a_tag_and_both_stages_start_from_it():
    froms = [text for word, text in instructions() if word == "FROM"]

    assert re.search(r"^ARG BASE_IMAGE=\S+:\d+\.\d+\S*$", DOCKERFILE, re.MULTILINE)
    assert {text.split()[0] for text in froms} == {"${BASE_IMAGE}"}


@pytest.mark.parametrize(
    "path", ["app", "gpu_kmeans", "constraints.txt", "pyproject.toml", "README.md", "LICENSE"]
)
def test_what_the_image_is_built_from_is_let_through(path):
    rules = (ROOT / ".dockerignore").read_text().splitlines()

    assert "*" in rules
    assert f"!{path}" in rules


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_hardened(name):
    service = SERVICES[name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service.keys() & {"privileged", "cap_add", "network_mode", "user"}


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_limits_and_time_to_stop(name):
    service = SERVICES[name]
    (tmpfs,) = service["tmpfs"]

    assert service.keys() >= {"mem_limit", "pids_limit", "stop_grace_period"}
    assert service["memswap_limit"] == service["mem_limit"]
    assert {"max-size", "max-file"} <= service["logging"]["options"].keys()
    assert {"noexec", "nosuid", "nodev"} <= set(tmpfs.split(":")[1].split(","))


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_longer_to_stop_than_its_requests_have_to_finish(name):
    seconds = int(SERVICES[name]["stop_grace_period"].removesuffix("s"))

    assert seconds > Settings().stop_timeout_s


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_published_on_loopback_only(name):
    assert published(SERVICES[name]).startswith("127.0.0.1:")


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_takes_its_settings_from_a_file_that_need_not_be_there(name):
    assert SERVICES[name]["env_file"] == [{"path": "gpu-kmeans.env", "required": False}]
    assert "gpu-kmeans.env" in (ROOT / ".gitignore").read_text().splitlines()


def test_no_two_services_share_a_port():
    addresses = [published(service) for service in SERVICES.values()]

    assert len(set(addresses)) == len(addresses)


def test_plain_up_serves_on_the_cpu_and_the_gpu_waits_for_its_profile():
    assert [name for name, service in SERVICES.items() if "profiles" not in service] == ["cpu"]
    assert SERVICES["gpu"]["profiles"] == ["gpu"]


def test_only_the_gpu_service_reserves_a_device():
    (device,) = SERVICES["gpu"]["deploy"]["resources"]["reservations"]["devices"]

    assert device["capabilities"] == ["gpu"]
    assert "deploy" not in SERVICES["cpu"]


def test_the_image_for_cuda_has_the_compiler_that_triton_asks_for_and_where_to_put_its_work():
    assert SERVICES["gpu"]["build"]["args"]["BASE_IMAGE"] == "python:3.11-bookworm"
    assert "BASE_IMAGE" not in SERVICES["cpu"]["build"]["args"]
    assert "TRITON_CACHE_DIR=/var/cache/gpu-kmeans/" in DOCKERFILE


def test_the_image_is_tested_where_every_change_is():
    assert 'stage "make test-image" make test-image\n' in (ROOT / ".ci/run").read_text()


@pytest.mark.parametrize(("name", "device"), [("cpu", "cpu"), ("gpu", "cuda")])
def test_a_service_is_built_for_its_device(name, device):
    assert SERVICES[name]["build"]["args"]["DEVICE"] == device
