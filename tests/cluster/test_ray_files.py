"""The deployment files: Ray takes them, and nothing that runs code is open to everyone."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from app.ray_serve import Cluster

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy/ray"
SERVICE, POLICY = yaml.safe_load_all((FOLDER / "kuberay.yaml").read_text())
CLUSTER = SERVICE["spec"]["rayClusterConfig"]
CONFIGS = {
    "serve": yaml.safe_load((FOLDER / "serve.yaml").read_text()),
    "kuberay": yaml.safe_load(SERVICE["spec"]["serveConfigV2"]),
}
PODS = [CLUSTER["headGroupSpec"], *CLUSTER["workerGroupSpecs"]]


@pytest.mark.parametrize("name", CONFIGS)
def test_ray_serve_takes_the_configuration(name):
    (application,) = ServeDeploySchema.model_validate(CONFIGS[name]).applications

    assert application.import_path == "app.ray_serve:build"
    Cluster.model_validate(application.args)


def test_serve_build_writes_a_configuration_ray_takes(tmp_path):
    path = tmp_path / "built.yaml"
    command = [Path(sys.executable).with_name("serve"), "build", "app.ray_serve:app", "-o", path]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert result.returncode == 0, result.stderr
    (application,) = ServeDeploySchema.model_validate(yaml.safe_load(path.read_text())).applications
    assert {each.name for each in application.deployments} == {"engine", "ingress"}


def test_the_plain_configuration_listens_on_loopback():
    assert CONFIGS["serve"]["http_options"]["host"] == "127.0.0.1"


@pytest.mark.parametrize("pod", PODS, ids=["head", "worker"])
def test_a_pod_asks_for_the_token_tells_nobody_and_has_no_rights(pod):
    spec = pod["template"]["spec"]
    (container,) = spec["containers"]
    env = {each["name"]: each.get("value") or each["valueFrom"] for each in container["env"]}

    assert env["RAY_USAGE_STATS_ENABLED"] == "0"
    assert env["RAY_AUTH_MODE"] == "token"
    assert "secretKeyRef" in env["RAY_AUTH_TOKEN"]
    assert spec["securityContext"]["runAsNonRoot"]
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["resources"]["limits"] == container["resources"]["requests"]


def test_only_the_service_s_port_is_open_to_everyone():
    rules = POLICY["spec"]["ingress"]
    labels = PODS[0]["template"]["metadata"]["labels"]

    assert POLICY["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
    assert [rule["ports"] for rule in rules if "from" not in rule] == [
        [{"port": 8000, "protocol": "TCP"}]
    ]


def test_the_manifest_names_the_ray_that_is_pinned():
    pins = (ROOT / "constraints.txt").read_text().splitlines()

    assert f"ray=={CLUSTER['rayVersion']}" in pins
