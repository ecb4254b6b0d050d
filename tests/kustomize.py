"""A stand-in for ``kustomize build``, which Debian does not have: the few fields that projects use.

Whatever it does not know is an error, and where a real kustomize is, a test compares the two.
"""

import copy
import hashlib
import json
from pathlib import Path
from typing import Any

import yaml

Object = dict[str, Any]

FIELDS = {
    "apiVersion",
    "kind",
    "resources",
    "namespace",
    "labels",
    "images",
    "configMapGenerator",
    "patches",
}


def build(folder: Path) -> list[Object]:
    """Put together what a kustomization names."""
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text("utf-8"))
    only(kustomization, FIELDS)
    objects = []
    for name in kustomization["resources"]:
        path = folder / name
        objects += build(path) if path.is_dir() else [yaml.safe_load(path.read_text("utf-8"))]
    for patch in kustomization.get("patches", []):
        change(objects, patch)
    for generator in kustomization.get("configMapGenerator", []):
        objects.append(generate(objects, generator))
    for one in objects:
        label(one["metadata"], kustomization)
    for image in kustomization.get("images", []):
        use_image(objects, image)
    return objects


def label(metadata: Object, kustomization: Object) -> None:
    """Set namespace and labels of an object."""
    if "namespace" in kustomization:
        metadata["namespace"] = kustomization["namespace"]
    for labels in kustomization.get("labels", []):
        only(labels, {"pairs"})
        metadata["labels"] = metadata.get("labels", {}) | labels["pairs"]


def use_image(objects: list[Object], image: Object) -> None:
    """Replace the name of an image in all containers."""
    only(image, {"name", "newName", "newTag"})
    for container in containers(objects):
        if container["image"] == image["name"]:
            container["image"] = f"{image['newName']}:{image['newTag']}"


def only(fields: Object, known: set[str]) -> None:
    """Refuse what is not known."""
    if unknown := fields.keys() - known:
        raise NotImplementedError(f"kustomization with {sorted(unknown)}")


def containers(objects: list[Object]) -> list[Object]:
    return [
        container
        for one in objects
        if one["kind"] == "Deployment"
        for container in one["spec"]["template"]["spec"]["containers"]
    ]


def change(objects: list[Object], patch: Object) -> None:
    """Replace values in all objects of a kind, by a JSON patch (RFC 6902)."""
    only(patch, {"target", "patch"})
    only(patch["target"], {"kind"})
    targets = [one for one in objects if one["kind"] == patch["target"]["kind"]]
    assert targets, f"nothing to patch: {patch['target']}"
    for target in targets:
        for step in yaml.safe_load(patch["patch"]):
            only(step, {"op", "path", "value"})
            assert step["op"] == "replace"
            *path, last = [
                int(part) if part.isdecimal() else part for part in step["path"].split("/")[1:]
            ]
            place: Any = target
            for part in path:
                place = place[part]
            place[last]  # it must be there
            place[last] = copy.deepcopy(step["value"])


def generate(objects: list[Object], generator: Object) -> Object:
    """Make a ConfigMap whose name tells its content, and let those who refer to it do so."""
    only(generator, {"name", "literals"})
    name = generator["name"]
    data = dict(literal.split("=", 1) for literal in generator["literals"])
    content = json.dumps({"data": data, "kind": "ConfigMap", "name": ""}, separators=(",", ":"))
    digest = hashlib.sha256(content.encode()).hexdigest()[:10]
    # Its alphabet has no vowels and nothing that looks like one.
    hashed = f"{name}-{digest.translate(str.maketrans('013ae', 'ghkmt'))}"
    for container in containers(objects):
        for source in container.get("envFrom", []):
            if source.get("configMapRef", {}).get("name") == name:
                source["configMapRef"]["name"] = hashed
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": hashed}, "data": data}
