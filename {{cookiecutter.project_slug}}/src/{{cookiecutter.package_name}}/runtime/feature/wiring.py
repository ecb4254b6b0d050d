"""Add the routes of a feature to `app.py`, whatever else its owner has changed there.

The place is found in the syntax tree; the text around it stays as it is.
"""

import ast
import re

NOTHING_ELSE = re.compile(rb"[ \t]*(#.*)?")
"""What follows the bracket of a list if each of its elements has lines of its own."""


def names_in(source: bytes) -> set[str]:
    """Return the names that a module uses or defines; none if it is not valid Python."""
    tree = _parse(source)
    names: set[str] = set()
    for node in ast.walk(tree) if tree else ():
        match node:
            case ast.Name(id=name) | ast.arg(arg=name):
                names.add(name)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                names.add(node.name)
            case ast.alias(name=name, asname=other):
                names.add(other or name.partition(".")[0])
    return names


def wired(source: bytes, name: str) -> bytes | None:
    """Return `app.py` with an import of a feature and its routes.

    None if there is no list ``routes=[...]``, or more than one, or no other import.
    """
    tree = _parse(source)
    routes = _routes(tree) if tree else None
    imports = _end_of_imports(tree) if tree else 0
    if not (routes and imports):
        return None
    lines = source.splitlines(keepends=True)
    # From the end to the beginning, so that the positions of the tree stay right.
    _add_routes(lines, routes, b"*%s.routes" % name.encode())
    lines.insert(imports, b"from . import %s" % name.encode() + _split(lines[0])[1])
    changed = b"".join(lines)
    return changed if _parse(changed) else None


def _parse(source: bytes) -> ast.Module | None:
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError):
        return None


def _routes(tree: ast.Module) -> ast.List | None:
    """Find the list that is given as ``routes=``, itself or by the name of a variable."""
    given = [
        keyword.value
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        for keyword in call.keywords
        if keyword.arg == "routes"
    ]
    names = {value.id for value in given if isinstance(value, ast.Name)}
    for node in ast.walk(tree):
        match node:
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                if name in names and node.value:
                    given.append(node.value)
    lists = [value for value in given if isinstance(value, ast.List)]
    return lists[0] if len(lists) == 1 else None


def _end_of_imports(tree: ast.Module) -> int:
    """Return the number of the line where the first imports end; 0 if there are none."""
    end = 0
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            end = node.end_lineno or node.lineno
        elif end:
            break
    return end


def _add_routes(lines: list[bytes], routes: ast.List, element: bytes) -> None:
    """Add an element in front: a route like ``/{path*}`` before it would match its requests."""
    number, column = routes.lineno - 1, routes.col_offset + len(b"[")
    line = lines[number]
    text, newline = _split(line)
    if NOTHING_ELSE.fullmatch(text[column:]):
        below = lines[routes.elts[0].lineno - 1] if routes.elts else b"    " + line
        indentation = below[: len(below) - len(below.lstrip())]
        lines.insert(number + 1, indentation + element + b"," + newline)
    else:
        comma = b", " if routes.elts else b""
        lines[number] = line[:column] + element + comma + line[column:]


def _split(line: bytes) -> tuple[bytes, bytes]:
    """Return the text of a line and its end."""
    text = line.rstrip(b"\r\n")
    return text, line[len(text) :]
