"""What kustomize makes of the manifests of a project is what Kubernetes accepts."""

import functools
import itertools
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from .bakes import BAKES, LONGEST, Answers
from .kustomize import Object, build, containers
from .tools import PLACES

Bake = Callable[..., Path]

# The oldest version that the README names and the newest that the checker knows.
VERSIONS = ("1.31", "1.37")
OVERLAYS = ("production", "staging")

PROJECTS: dict[str, Answers] = {
    "default": {},
    "inside": {"nginx": False, "processes": "single", "workers": "1"},
    "awkward": BAKES["awkward,deploy=kubernetes"],
    "longest": {**LONGEST, "workers": "64", "logging": "file"},
}

LABEL = r"[a-z]([a-z0-9-]*[a-z0-9])?"
QUANTITY = r"[1-9]\d*(m|[KMG]i)?"
VARIABLE = r"APP_[A-Z_]+"


@pytest.fixture(params=PROJECTS)
def given(request: pytest.FixtureRequest) -> Answers:
    """The answers of one project."""
    return PROJECTS[request.param]


@pytest.fixture
def folder(bake: Bake, given: Answers) -> Path:
    """The manifests that these answers gave."""
    return bake(**{**given, "deploy": "kubernetes"}) / "deploy/kubernetes"


@pytest.fixture
def default(bake: Bake) -> list[Object]:
    """What the default project applies in staging, which uses most."""
    return build(bake(deploy="kubernetes") / "deploy/kubernetes/overlays/staging")


@functools.cache
def complaint(document: str, version: str) -> str:
    """Say what Kubernetes has against an object. Many are the same in all projects."""
    try:
        kubernetes_validate.validate(json.loads(document), version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return f"{'.'.join(map(str, error.path))}: {error.message}"
    return ""


def complaints(objects: list[Object]) -> list[str]:
    """Say what Kubernetes has against some objects."""
    found = [
        f"{one['kind']}, {version}: {complaint(json.dumps(one, sort_keys=True), version)}"
        for one in objects
        for version in VERSIONS
    ]
    return [line for line in found if not line.endswith(": ")]


def values(node: Any, key: str) -> Iterator[Any]:
    """Find the values of a key, however deep."""
    if isinstance(node, dict):
        if key in node:
            yield node[key]
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            yield from values(child, key)


def bad_texts(objects: list[Object]) -> list[str]:
    """List the texts that Kubernetes refuses, though no schema says so."""
    pods = containers(objects)
    hosts = [*values(objects, "host"), *itertools.chain(*values(objects, "hosts"))]
    services = [one for one in objects if one["kind"] == "Service"]
    labels = [one["metadata"]["name"] for one in services]
    labels += [port["name"] for one in services for port in one["spec"]["ports"]]
    labels += [one["metadata"]["namespace"] for one in objects]
    labels += [container["name"] for container in pods]
    labels += [part for host in hosts for part in host.split(".")]
    labels += [value for pairs in values(objects, "labels") for value in pairs.values()]
    amounts = [*values(pods, "requests"), *values(pods, "limits")]
    sizes = [size for amount in amounts for size in amount.values()]
    sizes += [*values(objects, "sizeLimit"), *values(objects, "averageValue")]
    rules = [
        # The names of most kinds may be longer than the parts of the name of a host.
        ([*values(objects, "name"), *values(objects, "secretName")], LABEL, 253),
        (labels, LABEL, 63),
        ([port["name"] for container in pods for port in container["ports"]], LABEL, 15),
        (sizes, QUANTITY, 63),
        ([name for data in values(objects, "data") for name in data], VARIABLE, 253),
    ]
    return [
        text
        for texts, pattern, longest in rules
        for text in texts
        if not re.fullmatch(pattern, text) or len(text) > longest
    ]


def test_kubernetes_accepts_every_object(folder: Path) -> None:
    for overlay in OVERLAYS:
        objects = build(folder / "overlays" / overlay)
        assert complaints(objects) == []
        assert bad_texts(objects) == []


@pytest.mark.parametrize(
    ("kind", "before", "after"),
    [
        ("Deployment", "readOnlyRootFilesystem", "readOnlyRootFileSystem"),
        ("Deployment", "periodSeconds: 10", "periodSeconds: 10s"),
        ("HorizontalPodAutoscaler", "averageValue", "averageValues"),
        ("Ingress", "pathType: Prefix", "path_type: Prefix"),
        ("NetworkPolicy", "podSelector", "podSelectors"),
        ("PodDisruptionBudget", "maxUnavailable", "maxUnavailability"),
        ("Service", "targetPort", "target"),
        ("ConfigMap", "APP_LOG_LEVEL: debug", "APP_THREADS: 8"),
    ],
)
def test_kubernetes_would_complain(
    default: list[Object], kind: str, before: str, after: str
) -> None:
    assert complaints(default) == []
    [one] = [one for one in default if one["kind"] == kind]
    text = yaml.safe_dump(one)
    assert before in text
    assert complaints([yaml.safe_load(text.replace(before, after))]) != []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("name: http", "name: a-port-for-the-public"),
        ("name: tornado-service", "name: tornado_service"),
        ("namespace: staging", f"namespace: {'w' * 60}-staging"),
        (".staging.example.com", f"{'w' * 60}.example.com"),
        ("-tls", "-tls_"),
        ("cpu: 250m", "cpu: 250mm"),
        ("sizeLimit: 64Mi", "sizeLimit: 64MB"),
        ("APP_LOG_LEVEL", "APP-LOG-LEVEL"),
    ],
)
def test_a_bad_text_is_noticed(default: list[Object], before: str, after: str) -> None:
    assert bad_texts(default) == []
    text = yaml.safe_dump_all(default)
    assert before in text
    assert bad_texts(list(yaml.safe_load_all(text.replace(before, after)))) != []


def test_what_was_asked_for_is_there(folder: Path, given: Answers) -> None:
    for overlay in OVERLAYS:
        objects = build(folder / "overlays" / overlay)
        kinds = {one["kind"] for one in objects}
        assert kinds >= {"Deployment", "HorizontalPodAutoscaler", "NetworkPolicy", "Service"}
        assert ("Ingress" in kinds) == given.get("nginx", True)
        in_a_file = given.get("logging") == "file"
        assert [path for path in values(objects, "mountPath") if "log" in path] == (
            [f"/var/log/{given.get('project_slug', 'tornado-service')}"] if in_a_file else []
        )


def test_the_answer_is_the_number_of_pods(folder: Path, given: Answers) -> None:
    objects = build(folder / "overlays/production")
    # One could be lost, and then there would be none.
    pods = max(2, int(given.get("workers", 4)))
    assert [*values(objects, "minReplicas")] == [pods]
    [most] = values(objects, "maxReplicas")
    assert most > pods


def test_the_readme_names_what_is_there(folder: Path) -> None:
    text = (folder / "README.md").read_text("utf-8")
    project = folder.parents[1]
    paths = re.findall(r"\b(?:deploy|tests)/[\w./-]*\w", text)
    paths += [
        f"deploy/kubernetes/{path}" for path in re.findall(r"`((?:base|overlays)/[^`]*)`", text)
    ]
    assert paths
    assert [path for path in paths if not (project / path).exists()] == []
    versions = re.search(r"Kubernetes (\S+) or later", text)
    assert versions
    assert versions[1] == VERSIONS[0]


def test_the_readme_has_the_times_of_a_shutdown(folder: Path) -> None:
    readme = (folder / "README.md").read_text("utf-8")
    lines = (folder.parents[1] / "deploy/production.env").read_text("utf-8").splitlines()
    settings = dict(line.split("=", 1) for line in lines if line.startswith("APP_"))
    [grace] = values(build(folder / "overlays/production"), "terminationGracePeriodSeconds")
    delay, timeout = int(settings["APP_DRAIN_DELAY"]), int(settings["APP_DRAIN_TIMEOUT"])
    assert f"`APP_DRAIN_DELAY` ({delay} s)" in readme
    assert f"`APP_DRAIN_TIMEOUT` ({timeout} s)" in readme
    assert f"`terminationGracePeriodSeconds` ({grace} s)" in readme
    assert f"are {delay + timeout} s" in (folder / "base/deployment.yaml").read_text("utf-8")
    # Long enough for load balancers to notice, and instead of a preStop hook.
    assert delay >= 5
    assert [*values(build(folder / "overlays/production"), "lifecycle")] == []


@pytest.fixture
def deployment(folder: Path) -> Object:
    """The Deployment of production."""
    objects = build(folder / "overlays/production")
    [found] = [one for one in objects if one["kind"] == "Deployment"]
    spec: Object = found["spec"]
    return spec


def test_a_pod_has_no_more_rights_than_it_needs(deployment: Object) -> None:
    pod = deployment["template"]["spec"]
    [container] = pod["containers"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert all(volume["emptyDir"]["sizeLimit"] for volume in pod["volumes"])


def test_memory_is_limited_and_the_cpu_is_not(deployment: Object) -> None:
    [container] = deployment["template"]["spec"]["containers"]
    requests, limits = container["resources"]["requests"], container["resources"]["limits"]
    assert limits == {"memory": requests["memory"]}
    assert requests["cpu"]


def test_probes_use_the_admin_port_and_spare_a_busy_event_loop(deployment: Object) -> None:
    [container] = deployment["template"]["spec"]["containers"]
    for probe, path in {"startup": "/livez", "readiness": "/readyz", "liveness": "/livez"}.items():
        assert container[f"{probe}Probe"]["httpGet"] == {"path": path, "port": "admin"}
    liveness = container["livenessProbe"]
    assert liveness["timeoutSeconds"] >= 5
    assert liveness["periodSeconds"] * liveness["failureThreshold"] >= 30


def test_an_update_starts_new_pods_first(deployment: Object) -> None:
    update = deployment["strategy"]["rollingUpdate"]
    assert update["maxUnavailable"] == 0
    assert update["maxSurge"]
    # The autoscaler owns their number.
    assert "replicas" not in deployment


def test_settings_come_from_optional_objects_alone(deployment: Object) -> None:
    pod = deployment["template"]["spec"]
    [container] = pod["containers"]
    name = container["name"]
    assert container["envFrom"] == [
        {"configMapRef": {"name": name, "optional": True}},
        {"secretRef": {"name": name, "optional": True}},
    ]
    assert "env" not in container
    assert pod["enableServiceLinks"] is False


# The stand-in


def test_the_stand_in_refuses_what_it_does_not_know(bake_into: Bake, tmp_path: Path) -> None:
    folder = bake_into(tmp_path, deploy="kubernetes") / "deploy/kubernetes/overlays/staging"
    file = folder / "kustomization.yaml"
    text = file.read_text("utf-8")
    for wrong, error in (
        (text + "namePrefix: x-\n", NotImplementedError),
        (text.replace("/spec/minReplicas", "/spec/replicas"), KeyError),
        (text.replace("kind: Ingress", "kind: Gateway"), AssertionError),
    ):
        assert wrong != text
        file.write_text(wrong)
        with pytest.raises(error):
            build(folder)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_stand_in_does_as_kustomize_does(folder: Path, overlay: str) -> None:
    # Not asked for in CI: Debian's is older than the fields that everybody uses today.
    kubectl = shutil.which("kubectl", path=PLACES) or pytest.skip("kubectl is not installed")
    version = subprocess.check_output([kubectl, "version", "--client"], text=True, timeout=60)
    found = re.search(r"Kustomize Version: v(\d+)", version)
    if not found or int(found[1]) < 5:
        pytest.skip("kubectl has no kustomize 5")
    target = folder / "overlays" / overlay
    text = subprocess.check_output([kubectl, "kustomize", target], text=True, timeout=60)
    assert in_order(list(yaml.safe_load_all(text))) == in_order(build(target))


def in_order(objects: list[Object]) -> list[Object]:
    """Sort objects by kind, of which there is one each."""
    return sorted(objects, key=lambda one: str(one["kind"]))
