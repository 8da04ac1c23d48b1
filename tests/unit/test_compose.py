"""What compose.yaml and the files that it mounts say of each other, of the broker and of the image is so."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from dispatchd.config_sources import gather

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found: dict[str, Any] = read(ROOT / "compose.yaml")["services"]
    return found


def usual(text: str) -> str:
    """What compose makes of a text when no variable is set."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


def test_nobody_may_do_more_than_needed(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        for port in service["ports"]:
            assert usual(port).startswith("127.0.0.1:"), port
    user, group = services["broker"]["user"].split(":")
    assert f"--uid {user} " in (ROOT / "Dockerfile").read_text()
    assert f"-g {group} " in (ROOT / "Dockerfile").read_text()


def test_all_are_checked_and_wait_for_each_other(services: dict[str, Any]) -> None:
    assert "HEALTHCHECK" in (ROOT / "Dockerfile").read_text()
    for name, service in services.items():
        assert "healthcheck" in service or service.get("build") == ".", name
        for needed, how in service.get("depends_on", {}).items():
            assert needed in services
            assert how == {"condition": "service_healthy"}


def test_images_of_others_have_a_version(services: dict[str, Any]) -> None:
    for service in services.values():
        assert "build" in service or re.search(r":v?\d+\.\d+\.\d+$", service["image"])


def test_the_brokers_settings_are_understood(services: dict[str, Any]) -> None:
    broker = services["broker"]
    sources = gather({}, {name: usual(value) for name, value in broker["environment"].items()})
    assert sources.remarks == ()
    config = sources.config
    inside = {int(port.rpartition(":")[2]) for port in broker["ports"]}
    assert inside == {config.amqp_port, config.admin_port}
    assert broker["volumes"] == [f"broker:{str(config.persist_dir).rstrip('/')}"]
    for job in read(DEPLOY / "prometheus/prometheus.yml")["scrape_configs"]:
        for target in job["static_configs"]:
            assert target["targets"] == [f"broker:{config.metrics_port}"]


def test_what_is_mounted_is_there_and_found(services: dict[str, Any]) -> None:
    volumes = read(ROOT / "compose.yaml")["volumes"]
    inside: dict[str, Path] = {}
    for service in services.values():
        for mount in service["volumes"]:
            source, target, *_ = mount.split(":")
            if source.startswith("."):
                assert mount.endswith(":ro")
                assert (ROOT / source).is_dir(), source
                inside[target] = ROOT / source
            else:
                assert source in volumes

    def find(path: str) -> Path:
        [found] = (
            folder / Path(path).relative_to(target) for target, folder in inside.items() if path.startswith(target)
        )
        return found

    assert find("/etc/prometheus/prometheus.yml").is_file()
    [rules] = read(DEPLOY / "prometheus/prometheus.yml")["rule_files"]
    assert find(rules).is_file()
    [provider] = read(DEPLOY / "grafana/provisioning/dashboards/dispatchd.yml")["providers"]
    assert list(find(provider["options"]["path"]).glob("*.json"))
    assert find(services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]).is_file()


def test_grafana_finds_prometheus(services: dict[str, Any]) -> None:
    [source] = read(DEPLOY / "grafana/provisioning/datasources/prometheus.yml")["datasources"]
    url = urlsplit(source["url"])
    assert url.hostname in services
    assert f"127.0.0.1:{url.port}:{url.port}" in services[str(url.hostname)]["ports"]
