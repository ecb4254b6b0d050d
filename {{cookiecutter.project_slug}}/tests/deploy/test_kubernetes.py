"""The manifests agree with each other and with the settings of production."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from {{ cookiecutter.package_name }}.runtime import settings

from ..support import ROOT

FOLDER = ROOT / "deploy/kubernetes"
NAME = "{{ cookiecutter.project_slug }}"
LABELS = {"app.kubernetes.io/name": NAME}
MARGIN = 5
"""Seconds that a pod has at least between the end of its drain and SIGKILL."""

Object = dict[str, Any]


def read(path: str) -> Object:
    """Read a file, which has one document."""
    content: Object = yaml.safe_load((FOLDER / path).read_text("utf-8"))
    return content


@pytest.fixture
def objects() -> dict[str, Object]:
    """What the base consists of, by kind."""
    found = [read(f"base/{name}") for name in read("base/kustomization.yaml")["resources"]]
    assert len({one["kind"] for one in found}) == len(found)
    return {one["kind"]: one for one in found}


@pytest.fixture
def pod(objects: dict[str, Object]) -> Object:
    spec: Object = objects["Deployment"]["spec"]["template"]["spec"]
    return spec


@pytest.fixture
def container(pod: Object) -> Object:
    [only] = pod["containers"]
    return dict(only)


@pytest.fixture(params=["production", "staging"])
def overlay(request: pytest.FixtureRequest) -> Object:
    return read(f"overlays/{request.param}/kustomization.yaml")


def patches(overlay: Object) -> list[tuple[str, Object]]:
    """List the changes that an overlay makes, each with the kind that it changes."""
    return [
        (patch["target"]["kind"], change)
        for patch in overlay.get("patches", [])
        for change in yaml.safe_load(patch["patch"])
    ]


# Files


def test_every_file_is_used() -> None:
    used = {"README.md", "base/kustomization.yaml"}
    used |= {f"overlays/{name}/kustomization.yaml" for name in ("production", "staging")}
    used |= {f"base/{name}" for name in read("base/kustomization.yaml")["resources"]}
    there = {str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*") if path.is_file()}
    assert used == there


def test_everything_has_the_name_of_the_service(objects: dict[str, Object]) -> None:
    assert {one["metadata"]["name"] for one in objects.values()} == {NAME}


def test_an_overlay_builds_on_the_base_and_picks_a_version(
    overlay: Object, container: Object
) -> None:
    assert overlay["resources"] == ["../../base"]
    [image] = overlay["images"]
    assert image["name"] == container["image"]
    assert isinstance(image["newTag"], str)
    assert image["newTag"] != "latest"


def test_the_overlays_do_not_meet() -> None:
    overlays = [read(f"overlays/{name}/kustomization.yaml") for name in ("production", "staging")]
    assert len({overlay["namespace"] for overlay in overlays}) == len(overlays)


def test_an_overlay_changes_what_is_there(overlay: Object, objects: dict[str, Object]) -> None:
    for kind, change in patches(overlay):
        assert change["op"] == "replace"
        value: Any = objects[kind]
        for step in change["path"].strip("/").split("/"):
            value = value[int(step) if isinstance(value, list) else step]
        assert type(value) is type(change["value"]), change["path"]


# Who is meant


def test_all_mean_the_same_pods(objects: dict[str, Object], pod: Object) -> None:
    [labels] = read("base/kustomization.yaml")["labels"]
    assert labels["pairs"] == LABELS
    deployment = objects["Deployment"]["spec"]
    assert deployment["template"]["metadata"]["labels"] == LABELS
    assert deployment["selector"]["matchLabels"] == LABELS
    assert objects["Service"]["spec"]["selector"] == LABELS
    assert objects["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == LABELS
    assert objects["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == LABELS
    for constraint in pod["topologySpreadConstraints"]:
        assert constraint["labelSelector"]["matchLabels"] == LABELS


def test_the_autoscaler_owns_the_number_of_pods(objects: dict[str, Object]) -> None:
    deployment, scaler = objects["Deployment"], objects["HorizontalPodAutoscaler"]["spec"]
    assert "replicas" not in deployment["spec"]
    target = {"apiVersion": deployment["apiVersion"], "kind": "Deployment", "name": NAME}
    assert scaler["scaleTargetRef"] == target
    assert 2 <= scaler["minReplicas"] < scaler["maxReplicas"]


def test_a_pod_is_one_process(production: settings.Settings) -> None:
    assert getattr(production, "workers", 1) == 1


# Ports


def test_the_service_listens_where_kubernetes_connects(
    production: settings.Settings, container: Object
) -> None:
    assert production.address.is_unspecified
    assert production.admin_address.is_unspecified
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"http": production.port, "admin": production.admin_port}


@pytest.mark.parametrize(
    ("probe", "path"), {"startup": "/readyz", "readiness": "/readyz", "liveness": "/livez"}.items()
)
def test_probes_ask_the_admin_port(container: Object, probe: str, path: str) -> None:
    assert container[f"{probe}Probe"]["httpGet"] == {"path": path, "port": "admin"}


def test_a_busy_event_loop_is_spared(container: Object) -> None:
    probe = container["livenessProbe"]
    assert probe["timeoutSeconds"] >= 5
    assert probe["periodSeconds"] * probe["failureThreshold"] >= 30


def test_only_the_public_port_is_in_the_service(objects: dict[str, Object]) -> None:
    [port] = objects["Service"]["spec"]["ports"]
    assert (port["name"], port["targetPort"]) == ("http", "http")


def test_who_may_connect_to_which_port(objects: dict[str, Object]) -> None:
    policy = objects["NetworkPolicy"]["spec"]
    assert policy["policyTypes"] == ["Ingress"]
    public, admin = policy["ingress"]
    assert (public["ports"], admin["ports"]) == ([{"port": "http"}], [{"port": "admin"}])
    assert public["from"]
    [monitoring] = admin["from"]
    assert monitoring["namespaceSelector"]["matchLabels"]


def test_an_ingress_comes_with_proxies_that_are_trusted(
    production: settings.Settings, objects: dict[str, Object]
) -> None:
    ingress = objects.get("Ingress")
    assert bool(ingress) == bool(production.trusted_proxies)
    [peer] = objects["NetworkPolicy"]["spec"]["ingress"][0]["from"]
    assert bool(ingress) == ("namespaceSelector" in peer)
    if ingress:
        [rule], [tls] = ingress["spec"]["rules"], ingress["spec"]["tls"]
        assert [rule["host"]] == tls["hosts"]
        [path] = rule["http"]["paths"]
        assert path["backend"]["service"] == {"name": NAME, "port": {"name": "http"}}
        assert set(ingress["metadata"]["annotations"].values()) == {NAME}


def test_an_overlay_changes_all_places_of_the_host(overlay: Object) -> None:
    hosts = [change["value"] for kind, change in patches(overlay) if kind == "Ingress"]
    assert len(hosts) in {0, 2}
    assert len(set(hosts)) <= 1


# Life


def test_nothing_is_killed_while_it_drains(production: settings.Settings, pod: Object) -> None:
    drain = production.drain_delay + production.drain_timeout
    assert pod["terminationGracePeriodSeconds"] >= drain + MARGIN


def test_a_pod_serves_until_all_know_that_it_leaves(
    production: settings.Settings, container: Object
) -> None:
    assert production.drain_delay >= 5
    assert "lifecycle" not in container


def test_texts_tell_the_drain_settings_as_they_are(
    production: settings.Settings, pod: Object
) -> None:
    delay, limit = production.drain_delay, production.drain_timeout
    readme = (FOLDER / "README.md").read_text("utf-8")
    assert f"`APP_DRAIN_DELAY` ({delay:g} s)" in readme
    assert f"`APP_DRAIN_TIMEOUT` ({limit:g} s)" in readme
    assert f"`terminationGracePeriodSeconds` ({pod['terminationGracePeriodSeconds']} s)" in readme
    assert f"are {delay + limit:g} s" in (FOLDER / "base/deployment.yaml").read_text("utf-8")


def test_an_update_stops_no_pod_before_another_is_ready(objects: dict[str, Object]) -> None:
    strategy = objects["Deployment"]["spec"]["strategy"]
    assert strategy["rollingUpdate"]["maxUnavailable"] == 0
    assert strategy["rollingUpdate"]["maxSurge"]


# Settings


def test_settings_of_an_overlay_reach_the_service(
    overlay: Object,
    container: Object,
    production: settings.Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    generators = overlay.get("configMapGenerator", [])
    references = [source["configMapRef"] for source in container["envFrom"][:1]]
    assert references == [{"name": NAME, "optional": True}]
    assert {generator["name"] for generator in generators} <= {NAME}
    literals = [literal for generator in generators for literal in generator["literals"]]
    for name, _, value in (literal.partition("=") for literal in literals):
        monkeypatch.setenv(name, value)
    assert settings.unknown_names() == []
    assert (settings.load() != production) == bool(literals)


def test_secrets_may_be_missing(container: Object) -> None:
    assert container["envFrom"][1:] == [{"secretRef": {"name": NAME, "optional": True}}]


def test_nothing_else_sets_a_variable(pod: Object, container: Object) -> None:
    assert pod["enableServiceLinks"] is False
    assert "env" not in container


# Security


def test_a_pod_may_do_what_it_has_to_and_no_more(pod: Object, container: Object) -> None:
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_a_pod_runs_as_the_user_of_the_image(pod: Object) -> None:
    [user] = re.findall(r"^USER (\d+)", (ROOT / "Dockerfile").read_text("utf-8"), re.MULTILINE)
    assert pod["securityContext"]["runAsUser"] == int(user)


def test_the_service_can_write_where_it_has_to(
    production: settings.Settings, pod: Object, container: Object
) -> None:
    mounts = {mount["name"]: Path(mount["mountPath"]) for mount in container["volumeMounts"]}
    assert mounts.keys() == {volume["name"] for volume in pod["volumes"]}
    assert all(volume["emptyDir"]["sizeLimit"] for volume in pod["volumes"])
    log = {production.log_file.parent} if production.log_file else set()
    assert set(mounts.values()) == {Path("/tmp"), *log}  # noqa: S108


def test_memory_is_limited_and_the_processor_is_not(container: Object) -> None:
    requests, limits = container["resources"]["requests"], container["resources"]["limits"]
    assert limits == {"memory": requests["memory"]}
    assert requests["cpu"]
