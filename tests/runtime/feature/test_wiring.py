"""The routes of a feature get into `app.py`, and everything else in it stays as it is."""

import pytest
from runtime.feature.wiring import names_in, wired

AS_DELIVERED = '''\
"""What this service consists of."""

from . import greetings
from .echo import Echo
from .runtime import Application, Route


def make_app(settings):
    """Build the application."""
    return Application(
        settings,
        routes=[
            *greetings.routes,
            Route("/echo", Echo),
        ],
        resources=[],
    )
'''

LISTS = {
    "on several lines": (
        "routes=[\n        Route('/', Page),\n    ],",
        "routes=[\n        *orders.routes,\n        Route('/', Page),\n    ],",
    ),
    "with comments": (
        "routes=[  # in order\n        # The page.\n        Route('/', Page)  # last\n    ]",
        "routes=[  # in order\n        *orders.routes,\n        # The page.\n"
        "        Route('/', Page)  # last\n    ]",
    ),
    "on one line": (
        "routes=[Route('/', Page), *greetings.routes]",
        "routes=[*orders.routes, Route('/', Page), *greetings.routes]",
    ),
    "that begins beside its bracket": (
        "routes=[Route('/', Page),\n            Route('/a', Page)]",
        "routes=[*orders.routes, Route('/', Page),\n            Route('/a', Page)]",
    ),
    "behind letters of two bytes": (
        "title='Überblick', routes=[Route('/', Page)]",
        "title='Überblick', routes=[*orders.routes, Route('/', Page)]",
    ),
    "of another element": ("routes=[*debug_routes()]", "routes=[*orders.routes, *debug_routes()]"),
    "that is empty": ("routes=[]", "routes=[*orders.routes]"),
    "that is empty, on two lines": (
        "routes=[\n    ]",
        "routes=[\n            *orders.routes,\n    ]",
    ),
    "indented with tabs": (
        "routes=[\n\t\tRoute('/', Page),\n\t]",
        "routes=[\n\t\t*orders.routes,\n\t\tRoute('/', Page),\n\t]",
    ),
}


def test_app_as_delivered() -> None:
    expected = AS_DELIVERED.replace(
        "            *greetings", "            *orders.routes,\n            *greetings"
    ).replace("Application, Route\n", "Application, Route\nfrom . import orders\n")
    assert wired(AS_DELIVERED.encode(), "orders") == expected.encode()


@pytest.mark.parametrize("case", LISTS)
def test_list_of_routes(case: str) -> None:
    before, after = LISTS[case]
    template = "import json\n\n\ndef make_app(s):\n    return Shop(\n        s, {}\n    )\n"
    changed = wired(template.format(before).encode(), "orders")
    imported = template.replace("json\n", "json\nfrom . import orders\n")
    assert changed == imported.format(after).encode()


@pytest.mark.parametrize("annotation", ["", ": list[Rule]"])
def test_list_in_a_variable(annotation: str) -> None:
    source = f"import a\n\nROUTES{annotation} = [\n    a.b,\n]\nApplication(s, routes=ROUTES)\n"
    changed = wired(source.encode(), "orders")
    assert changed == source.replace("a\n", "a\nfrom . import orders\n", 1).replace(
        "    a.b", "    *orders.routes,\n    a.b"
    ).encode("utf-8")


def test_line_ends_stay_those_of_windows() -> None:
    changed = wired(AS_DELIVERED.replace("\n", "\r\n").encode(), "orders")
    assert changed is not None
    assert changed.count(b"\n") == changed.count(b"\r\n") == AS_DELIVERED.count("\n") + 2


@pytest.mark.parametrize(
    "source",
    [
        "",
        "'''Doc.'''\nApplication(settings, routes=[])\n",
        "import a\nApplication(settings)\n",
        "import a\nApplication(settings, routes=all_routes())\n",
        "import a\nApplication(settings, routes=[] + a.routes)\n",
        "import a\nApplication(settings, routes=ROUTES)\n",
        "import a\nApplication(settings, routes=[])\nApplication(settings, routes=[])\n",
        "import a\nApplication(settings, routes=[\n",
        b"import a\nApplication(settings, 'caf\xe9', routes=[])\n",
        "import a; Application(\n    settings, routes=[])\n",
        "\0",
    ],
)
def test_app_without_one_clear_place_is_left_alone(source: str | bytes) -> None:
    assert wired(source.encode() if isinstance(source, str) else source, "orders") is None


def test_import_comes_below_the_first_ones() -> None:
    source = (
        b'"""Doc."""\n\nimport a\nfrom b import (\n    c,\n)\n\nd = Shop(routes=[])\nimport e\n'
    )
    changed = wired(source, "orders")
    assert changed is not None
    assert b"    c,\n)\nfrom . import orders\n\nd = Shop(routes=[*orders.routes])\n" in changed


def test_names_are_those_that_a_module_uses_or_defines() -> None:
    imports = b"import a.b\nfrom c import d as e, f\n"
    code = b"def g(h): i = j\nclass k: l: m\nasync def n(): ...\n"
    assert names_in(imports + code) == set("aefghijklmn")
    assert names_in(b"this is no Python") == set()
