"""What the manifests for Kubernetes say fits each other, the image and the broker."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

import dispatchd
from dispatchd.config import Config
from dispatchd.config_sources import Sources, gather

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy/kubernetes"
DOCKERFILE = (ROOT / "Dockerfile").read_text()
Document = dict[str, Any]


def documents(name: str) -> list[Document]:
    return [each for each in yaml.safe_load_all((FOLDER / name).read_text()) if each]


KUSTOMIZATION = documents("kustomization.yaml")[0]
APPLIED = [each for name in KUSTOMIZATION["resources"] for each in documents(name)]


def of_kind(kind: str) -> dict[str, Document]:
    return {each["metadata"]["name"]: each for each in APPLIED if each["kind"] == kind}


@pytest.fixture
def stateful() -> Document:
    [found] = of_kind("StatefulSet").values()
    return found


@pytest.fixture
def pod(stateful: Document) -> Document:
    found: Document = stateful["spec"]["template"]["spec"]
    return found


@pytest.fixture
def container(pod: Document) -> Document:
    [found] = pod["containers"]
    return dict(found)


@pytest.fixture
def sources(container: Document, tmp_path: Path) -> Sources:
    """The configuration that the broker would have there."""
    [config] = of_kind("ConfigMap").values()
    inside = {f"/etc/dispatchd/{name}": text for name, text in config["data"].items()}
    inside |= {"/run/secrets/dispatchd/user": "admin", "/run/secrets/dispatchd/password": "s3cret"}
    environment = dict(re.findall(r"\b(DISPATCHD_[A-Z_]+)=(\S+)", DOCKERFILE))
    for variable in container["env"]:
        value = variable["value"]
        if value in inside:
            file = tmp_path / Path(value).name
            file.write_text(inside[value])
            value = str(file)
        environment[variable["name"]] = value
    return gather({}, environment)


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="there is no kubectl")
def test_kustomize_puts_them_together() -> None:
    found = subprocess.run(
        ["kubectl", "kustomize", str(FOLDER)], capture_output=True, check=False, text=True, timeout=30
    )
    assert found.returncode == 0, found.stderr
    built = list(yaml.safe_load_all(found.stdout))
    assert len(built) == len(APPLIED)
    assert {each["metadata"]["namespace"] for each in built} == {KUSTOMIZATION["namespace"]}
    assert f"image: dispatchd/dispatchd:{dispatchd.__version__}" in found.stdout


def test_all_files_are_used() -> None:
    others = {"kustomization.yaml", "servicemonitor.yaml"}
    assert {path.name for path in FOLDER.iterdir()} == {*KUSTOMIZATION["resources"], *others}
    assert KUSTOMIZATION["images"] == [{"name": "dispatchd/dispatchd", "newTag": dispatchd.__version__}]


def test_the_configuration_is_understood(sources: Sources) -> None:
    config = sources.config
    assert sources.remarks == ()
    assert not config.guest_from_anywhere
    assert (config.default_user, config.default_pass) == ("admin", "s3cret")


def test_ports_are_the_brokers(sources: Sources, container: Document, stateful: Document) -> None:
    config = sources.config
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"amqp": config.amqp_port, "admin": config.admin_port, "metrics": config.metrics_port}
    template = stateful["spec"]["template"]
    assert template["metadata"]["annotations"]["prometheus.io/port"] == str(config.metrics_port)
    for service in of_kind("Service").values():
        assert service["spec"]["selector"].items() <= template["metadata"]["labels"].items()
        for port in service["spec"]["ports"]:
            assert port["port"] == ports[port["targetPort"]]
    [policy] = of_kind("NetworkPolicy").values()
    assert policy["spec"]["podSelector"]["matchLabels"] == stateful["spec"]["selector"]["matchLabels"]
    opened = [port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]]
    assert sorted(opened) == sorted(ports)


def test_the_pod_is_found(stateful: Document) -> None:
    labels = stateful["spec"]["template"]["metadata"]["labels"]
    assert stateful["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert of_kind("Service")[stateful["spec"]["serviceName"]]["spec"]["clusterIP"] == "None"
    assert stateful["spec"]["replicas"] == 1


def test_volumes_are_there_and_used(pod: Document, container: Document, stateful: Document) -> None:
    claims = {claim["metadata"]["name"] for claim in stateful["spec"]["volumeClaimTemplates"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts.keys() == claims | volumes.keys()
    assert Path(mounts["data"]) == Config().persist_dir
    assert f"VOLUME {mounts['data']}\n" in DOCKERFILE
    assert volumes["config"]["configMap"]["name"] in of_kind("ConfigMap")
    told = (FOLDER / "kustomization.yaml").read_text()
    name = volumes["login"]["secret"]["secretName"]
    assert f"create secret generic {name} --from-literal=user=admin --from-literal=password=" in told
    for variable in container["env"]:
        if variable["value"].startswith("/"):
            assert any(variable["value"].startswith(f"{path}/") for path in mounts.values()), variable


def test_it_has_no_rights(pod: Document, container: Document) -> None:
    [(user, group)] = re.findall(r"groupadd --gid (\d+) .*?useradd --uid (\d+)", DOCKERFILE, re.DOTALL)
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == int(user)
    assert pod["securityContext"]["runAsGroup"] == pod["securityContext"]["fsGroup"] == int(group)
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}
    }  # fmt: skip


def test_probes_ask_what_is_answered(container: Document) -> None:
    served = (ROOT / "dispatchd/web/app.py").read_text()
    probes = {name: probe["httpGet"] for name, probe in container.items() if name.endswith("Probe")}
    assert probes == {
        "startupProbe": {"path": "/readyz", "port": "admin"},
        "readinessProbe": {"path": "/readyz", "port": "admin"},
        "livenessProbe": {"path": "/livez", "port": "admin"},
    }
    for probe in probes.values():
        assert f'"{probe["path"]}"' in served


def test_prometheus_is_told_the_jobs_of_the_alerts() -> None:
    [monitor] = documents("servicemonitor.yaml")
    assert monitor["metadata"]["namespace"] == KUSTOMIZATION["namespace"]
    [service] = [each for each in of_kind("Service").values() if each["spec"].get("clusterIP") != "None"]
    assert monitor["spec"]["selector"]["matchLabels"] == service["metadata"]["labels"]
    ports = {port["name"] for port in service["spec"]["ports"]}
    jobs = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())["scrape_configs"]
    for job, endpoint in zip(jobs, monitor["spec"]["endpoints"], strict=True):
        assert endpoint["port"] in ports
        assert endpoint["relabelings"] == [{"targetLabel": "job", "replacement": job["job_name"]}]
        assert (endpoint.get("path"), endpoint.get("params")) == (job.get("metrics_path"), job.get("params"))
