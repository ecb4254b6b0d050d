"""The manifests agree with each other and with the production settings."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from {{ cookiecutter.package_name }}.settings import Settings

from .files import ROOT, unknown_settings

FOLDER = ROOT / "deploy/kubernetes"
NAME = "{{ cookiecutter.project_slug }}"
OVERLAYS = ("production", "staging")
SHUTDOWN_MARGIN = 5
"""Seconds between the end of the drain and SIGKILL."""

Object = dict[str, Any]


def read(path: str) -> Object:
    """Read a file with one document."""
    content: Object = yaml.safe_load((FOLDER / path).read_text("utf-8"))
    return content


@pytest.fixture
def objects() -> dict[str, Object]:
    """The objects of the base, by kind."""
    found = [read(f"base/{name}") for name in read("base/kustomization.yaml")["resources"]]
    return {one["kind"]: one for one in found}


@pytest.fixture
def pod(objects: dict[str, Object]) -> Object:
    spec: Object = objects["Deployment"]["spec"]["template"]["spec"]
    return spec


@pytest.fixture
def container(pod: Object) -> Object:
    [only] = pod["containers"]
    return dict(only)


@pytest.fixture(params=OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> Object:
    return read(f"overlays/{request.param}/kustomization.yaml")


def patches(overlay: Object) -> list[tuple[str, Object]]:
    """Return the changes of an overlay, each with the kind of object that it changes."""
    return [
        (patch["target"]["kind"], change)
        for patch in overlay.get("patches", [])
        for change in yaml.safe_load(patch["patch"])
    ]


# Files


def test_every_manifest_is_used() -> None:
    folders = ["base", *(f"overlays/{name}" for name in OVERLAYS)]
    used = {f"{folder}/kustomization.yaml" for folder in folders}
    used |= {f"base/{name}" for name in read("base/kustomization.yaml")["resources"]}
    assert used == {str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*.yaml")}


def test_overlay_sets_the_version_of_the_image(overlay: Object, container: Object) -> None:
    [image] = overlay["images"]
    assert image["name"] == container["image"]
    assert image["newTag"] != "latest"


def test_overlays_have_different_namespaces() -> None:
    namespaces = {read(f"overlays/{name}/kustomization.yaml")["namespace"] for name in OVERLAYS}
    assert len(namespaces) == len(OVERLAYS)


def test_overlay_changes_existing_fields(overlay: Object, objects: dict[str, Object]) -> None:
    for kind, change in patches(overlay):
        value: Any = objects[kind]
        for step in change["path"].strip("/").split("/"):
            value = value[int(step) if isinstance(value, list) else step]
        assert type(value) is type(change["value"]), change["path"]


def test_overlay_changes_both_places_of_the_host(overlay: Object) -> None:
    hosts = [change["value"] for kind, change in patches(overlay) if kind == "Ingress"]
    assert len(hosts) in {0, 2}
    assert len(set(hosts)) <= 1


# Names


def test_all_objects_select_the_same_pods(objects: dict[str, Object], pod: Object) -> None:
    deployment = objects["Deployment"]["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    assert deployment["selector"]["matchLabels"] == labels
    assert objects["Service"]["spec"]["selector"] == labels
    assert objects["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert objects["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == labels
    for constraint in pod["topologySpreadConstraints"]:
        assert constraint["labelSelector"]["matchLabels"] == labels


def test_autoscaler_scales_the_deployment(objects: dict[str, Object]) -> None:
    target = objects["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert target["name"] == objects["Deployment"]["metadata"]["name"]


def test_ingress_comes_with_trusted_proxies(
    production: Settings, objects: dict[str, Object]
) -> None:
    ingress = objects.get("Ingress")
    assert bool(ingress) == bool(production.trusted_proxies)
    if ingress:
        [rule], [tls] = ingress["spec"]["rules"], ingress["spec"]["tls"]
        assert [rule["host"]] == tls["hosts"]
        [path] = rule["http"]["paths"]
        service = objects["Service"]["metadata"]["name"]
        assert path["backend"]["service"] == {"name": service, "port": {"name": "http"}}


# Ports


def test_ports_are_those_of_the_settings(production: Settings, container: Object) -> None:
    assert production.address.is_unspecified
    assert production.admin_address.is_unspecified
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"http": production.port, "admin": production.admin_port}


def test_only_the_public_port_is_in_the_service(objects: dict[str, Object]) -> None:
    [port] = objects["Service"]["spec"]["ports"]
    assert (port["name"], port["targetPort"]) == ("http", "http")


def test_network_policy_allows_both_ports(objects: dict[str, Object]) -> None:
    public, admin = objects["NetworkPolicy"]["spec"]["ingress"]
    assert (public["ports"], admin["ports"]) == ([{"port": "http"}], [{"port": "admin"}])


# Settings


def test_pod_is_one_process(production: Settings) -> None:
    assert production.workers == 1


def test_kubernetes_waits_longer_than_the_service_drains(production: Settings, pod: Object) -> None:
    drain = production.drain_delay + production.drain_timeout
    assert pod["terminationGracePeriodSeconds"] >= drain + SHUTDOWN_MARGIN


def test_overlay_settings_reach_the_service(
    overlay: Object, container: Object, production: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    generators = overlay.get("configMapGenerator", [])
    references = [source["configMapRef"]["name"] for source in container["envFrom"][:1]]
    assert {generator["name"] for generator in generators} <= set(references)
    literals = [literal for generator in generators for literal in generator["literals"]]
    settings = dict(literal.split("=", 1) for literal in literals)
    assert unknown_settings(settings) == []
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert (Settings.load() != production) == bool(settings)


def test_pod_runs_as_the_user_of_the_image(pod: Object) -> None:
    [user] = re.findall(r"^USER (\d+)", (ROOT / "Dockerfile").read_text("utf-8"), re.MULTILINE)
    assert pod["securityContext"]["runAsUser"] == int(user)


def test_log_folder_is_writable(production: Settings, pod: Object, container: Object) -> None:
    mounts = {mount["name"]: Path(mount["mountPath"]) for mount in container["volumeMounts"]}
    assert mounts.keys() == {volume["name"] for volume in pod["volumes"]}
    log = {production.log_file.parent} if production.log_file else set()
    assert set(mounts.values()) == {Path("/tmp"), *log}  # noqa: S108
