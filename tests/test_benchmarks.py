"""The arithmetic, the parsing and the report of the benchmarks. Nothing here is measured."""

import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from benchmarks import (
    __main__,
    compare,
    faults,
    figures,
    load,
    measure,
    nginx,
    process,
    regression,
    report,
    series,
    servers,
    toolchain,
    websockets,
)
from benchmarks.bench import Bench, Effort
from benchmarks.environments import REQUIREMENTS, SERVICE, BenchmarkError, needs
from benchmarks.figures import RATIO, Figure, Row
from benchmarks.peers import payload
from benchmarks.readme import READMES, TABLE, Readme

WRK = """\
Running 1s test @ http://127.0.0.1:8000/
  1 threads and 32 connections
{"requests":5000,"microseconds":1250000,\
"connect":0,"read":2,"write":0,"status":3,"timeout":0}
"""


@pytest.fixture
def bench() -> Bench:
    return Bench(Effort(rounds=4, starts=1))


# Figures


@pytest.mark.parametrize("readme", READMES, ids=lambda readme: readme.path.name)
def test_figures_of_the_readmes_are_those_measured_last(readme: Readme) -> None:
    results = report.load_results(__main__.RESULTS / "figures.json")
    assert results.keys() >= set(__main__.ROWS) - __main__.ONLY_BY_NAME
    [found] = TABLE.finditer(readme.path.read_text("utf-8"))
    assert found[0] == found[1] + readme.table(__main__.ROWS.values(), results) + found[2]
    assert readme.what.keys() in (set(), set(__main__.ROWS))


def test_table_of_a_readme_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text("a\n<!-- make bench writes this table -->\nold\n<!-- end -->\nb\n")
    rows = [Row("speed", "time of this / of that", RATIO, 0.5), Row("other", "never measured", "s")]
    results = {"speed": {"median": 0.456}}
    expected = [
        "a",
        "<!-- make bench writes this table -->",
        "| what | median | must be |",
        "|---|---|---|",
        "| time of this / of that | 0.46× | ≤ 0.50× |",
        "<!-- end -->",
        "b",
    ]
    Readme(path, ("what", "median", "must be")).update(rows, results)
    assert path.read_text().splitlines() == expected
    Readme(path, ("what", "median", "must be"), {"speed": "시간"}).update(rows, results)
    assert path.read_text("utf-8").splitlines() == [
        *expected[:4],
        "| 시간 | 0.46× | ≤ 0.50× |",
        *expected[5:],
    ]


def test_ratios_are_taken_round_by_round() -> None:
    assert figures.ratios([1, 4], [2, 16]) == [0.5, 0.25]
    with pytest.raises(ValueError, match="zip"):
        figures.ratios([1, 4], [2])


@pytest.mark.parametrize(
    ("row", "met", "missed", "described"),
    [
        (Row("a", "", RATIO, 0.55), [0.1, 0.55], [0.56], "≤ 0.55×"),
        (Row("b", "", RATIO, 0.9, at_least=True), [0.9, 1.0], [0.89], "≥ 0.90×"),
        (Row("c", "", "", 0), [0], [1], "≤ 0"),
        (Row("d", "", "s"), [1000], [], "-"),
    ],
)
def test_bound_includes_its_limit(
    row: Row, met: list[float], missed: list[float], described: str
) -> None:
    assert [row.is_met_by(value) for value in met + missed] == [
        *(True for _ in met),
        *(False for _ in missed),
    ]
    assert row.describe_bound() == described


def test_figure_is_judged_by_its_median() -> None:
    figure = Figure(Row("a", "what", RATIO, 0.55), [0.9, 0.5, 0.4], "a note")
    assert figure.is_met
    assert figure.as_json() == {
        "what": "what",
        "unit": RATIO,
        "median": 0.5,
        "min": 0.4,
        "max": 0.9,
        "bound": "≤ 0.55×",
        "met": True,
        "note": "a note",
        "values": [0.9, 0.5, 0.4],
    }
    assert not Figure(figure.row, [0.1, 0.6, 0.7]).is_met


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(0.468, RATIO, "0.47×"), (12.345, "s", "12.3 s"), (3.0, "", "3")],
)
def test_value_has_its_unit(value: float, unit: str, text: str) -> None:
    assert figures.format_value(value, unit) == text


# Measuring


def fake_process(proc: Path, pid: int, children: str, stat: str, pss_kb: int) -> None:
    for thread, listed in ((pid, children), (pid + 1, "")):
        folder = proc / f"{pid}/task/{thread}"
        folder.mkdir(parents=True)
        (folder / "children").write_text(listed)
    (proc / f"{pid}/stat").write_text(stat)
    (proc / f"{pid}/smaps_rollup").write_text(
        f"00-ff ---p 00:00 0 [rollup]\nRss: 900 kB\nPss: {pss_kb} kB\nPss_Anon: 5 kB\n"
    )


def stat(name: str, *ticks: int) -> str:
    times = " ".join(map(str, ticks))
    return f"7 ({name}) S 1 7 7 0 -1 4194560 100 0 0 0 {times} 20 0 3 0 99 1000 200"


def test_descendants_are_counted_and_those_that_have_ended_are_not(tmp_path: Path) -> None:
    ticks = measure.TICKS_PER_SECOND
    fake_process(tmp_path, 100, "200 300 ", stat("python", ticks, 0, 0, 0), 10)
    fake_process(tmp_path, 200, "400", stat("python", 0, 2 * ticks, 3 * ticks, 4 * ticks), 20)
    fake_process(tmp_path, 400, "", stat("python", 0, 0, 0, 5 * ticks), 40)
    assert measure.tree(100, tmp_path) == [100, 200, 300, 400]
    assert measure.cpu_seconds(100, tmp_path) == 1 + 2 + 3 + 4 + 5
    assert measure.pss_bytes(100, tmp_path) == 70 * 1024


def test_name_of_a_process_may_contain_anything() -> None:
    assert measure.ticks(stat("a) S 1 2 (b", 1, 20, 300, 4000)) == 4321


def test_own_process_has_used_time_and_memory() -> None:
    pid = int(Path("/proc/self").readlink().name)
    assert measure.cpu_seconds(pid) > 0
    assert measure.pss_bytes(pid) > 2**20


def test_servers_take_turns_in_an_order_that_rotates(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def cpu_per_request(server: Any, path: str, **options: int) -> float:
        asked.append(server)
        assert path == "/x"
        assert options == {"seconds": 3, "connections": 7}
        return float(len(asked))

    monkeypatch.setattr(compare, "cpu_per_request", cpu_per_request)
    named: Any = {"first": 1, "second": 2}
    found = compare.alternate(bench, named, "/x", seconds=3, connections=7)
    assert asked == [1, 2, 2, 1, 1, 2, 2, 1, 1, 2]
    # The first round is to warm up.
    assert found == {"first": [4, 5, 8, 9], "second": [3, 6, 7, 10]}


def test_cpu_per_request_is_that_of_the_load_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 12.0])
    monkeypatch.setattr(compare, "cpu_seconds", lambda pid: next(clock))
    monkeypatch.setattr(compare, "put_load", lambda *a, **k: load.Load(4_000, 1, {}))
    assert compare.cpu_per_request(SimpleNamespace(pid=1, port=2)) == 0.0005  # type: ignore[arg-type]


# Load


def test_failures_of_a_load_are_counted_by_kind() -> None:
    found = load.parse(WRK)
    assert found == load.Load(5_000, 1.25, {"read": 2, "status": 3})
    assert found.failed == 5


@pytest.mark.parametrize(
    ("found", "passes"),
    [
        (load.Load(10, 1, {}), True),
        (load.Load(10, 1, {"timeout": 1}), False),
        (load.Load(0, 1, {}), False),
    ],
)
def test_load_with_a_failed_request_has_no_figure(
    found: load.Load, passes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "start_load", lambda *arguments, **options: None)
    monkeypatch.setattr(load, "result", lambda wrk: found)
    if passes:
        assert load.put_load(1) == found
    else:
        with pytest.raises(BenchmarkError, match=r"port 1, /"):
            load.put_load(1)


def test_missing_program_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(BenchmarkError, match=r"no-such-tool .*apt install no-such-tool"):
        needs("no-such-tool")


# Servers


class Responses(BaseHTTPRequestHandler):
    """Responds with the status that is the path, and closes."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(int(self.path[1:]))
        self.end_headers()
        self.wfile.write(b"body")

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Responses) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_only_a_response_with_status_200_counts(port: int) -> None:
    assert process.ask(port, "/200") == b"body"
    with pytest.raises(ConnectionError, match="503"):
        process.ask(port, "/503")


def test_websocket_that_is_refused_is_an_error(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    handshake = websockets.HANDSHAKE.replace(b"/echo", b"/403")
    monkeypatch.setattr(websockets, "HANDSHAKE", handshake)
    with pytest.raises(BenchmarkError, match="403"), websockets.open_websockets(port, 1):
        pass


def test_no_port_is_given_twice_and_none_is_in_use() -> None:
    first = process.free_port()
    with socket.create_server(("", first + 1)):
        several = process.free_port(4)
        assert several >= first + 2
        assert process.free_port() >= several + 4


def all_servers() -> list[servers.Server]:
    return [value for value in vars(servers).values() if isinstance(value, servers.Server)]


@pytest.mark.parametrize("server", all_servers(), ids=lambda server: server.name)
def test_peer_has_its_application_and_pinned_requirements(server: servers.Server) -> None:
    *_, application = server.command
    name = Path(application.partition(":")[0]).stem
    assert (servers.PEERS / f"{name}.py").exists()
    pinned = (REQUIREMENTS / f"{server.environment}.txt").read_text().splitlines()
    names = [re.split(r"==\S+", line)[0] for line in pinned]
    assert all("==" in line for line in pinned)
    for wanted in (REQUIREMENTS / f"{server.environment}.in").read_text().splitlines():
        assert re.split(r"[\[<>=]", wanted)[0] in names


def test_names_of_servers_are_unique() -> None:
    names = [server.name for server in all_servers()]
    assert len(set(names)) == len(names)
    assert SERVICE not in {server.environment for server in all_servers()}


@pytest.mark.parametrize("size", [1_000, 100_000])
def test_payload_has_about_the_size(size: int) -> None:
    text = json.dumps(payload.articles(size), separators=(",", ":"))
    assert 0.9 * size < len(text) < 1.1 * size


# Benchmarks


def test_configuration_of_nginx_keeps_all_but_places_and_limits(
    bake: Callable[..., Path], tmp_path: Path
) -> None:
    given = (bake() / "deploy/nginx/tornado-service.conf").read_text()
    made = nginx.configure(given, tmp_path, 12345, 23000)
    assert [f"127.0.0.1:2300{number} max_fails" in made for number in range(4)] == [True] * 4
    assert "listen 12345;" in made
    changed = [
        (old, new)
        for old, new in zip(given.splitlines(), made.splitlines(), strict=True)
        if old != new
    ]
    kinds = ("server 127", "listen ", "_log ", "limit_req_zone", "limit_conn ")
    assert all(any(kind in old for kind in kinds) for old, _ in changed)


def test_configuration_of_nginx_that_has_changed_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="4 servers"):
        nginx.configure("server 127.0.0.1:8000;", tmp_path, 1, 2)
    with pytest.raises(BenchmarkError, match="'b'"):
        nginx.replace("a", {"b": "c"})


def test_requests_are_counted_by_worker() -> None:
    lines = [json.dumps({"upstream.address": address}) for address in ("a", "b", "a")]
    assert nginx.requests_by_worker("\n".join(lines) + "\n") == {"a": 2, "b": 1}


def test_command_that_fails_is_an_error_with_its_output(tmp_path: Path) -> None:
    assert toolchain.seconds_of(["sh", "-c", "sleep 0.1"], tmp_path) >= 0.1
    with pytest.raises(BenchmarkError, match=r"exit code 3:\n.*oh no"):
        toolchain.seconds_of(["sh", "-c", "echo oh no; exit 3"], tmp_path)


def test_condition_that_never_holds_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    assert faults.seconds_until(lambda: True) is not None
    monkeypatch.setattr(faults, "PATIENCE", 0.05)
    assert faults.seconds_until(lambda: False) is None


def test_longest_time_is_reported() -> None:
    assert faults.longest([0.25, 1.5, 0.5]) == "1.5 s"
    assert faults.longest([0.05]) == "0.05 s"
    assert faults.longest([0.25, None]) == "not within 15 s"


def test_worker_that_never_responds_is_no_victim(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "PATIENCE", 0.05)
    gone = SimpleNamespace(port=process.free_port())
    assert faults.next_victim(cast(process.Running, gone)) is None


def test_series_has_the_spread_at_each_point(bench: Bench) -> None:
    def at(_: Bench, x: int) -> dict[str, list[float]]:
        return {"ours": [x, 3 * x, 8 * x], "theirs": [x]}

    found = series.run(bench, series.Series("name", "Title", "x", "y", [1, 10], at, log_y=True))
    assert found == {
        "title": "Title",
        "x_label": "x",
        "y_label": "y",
        "log_y": True,
        "x": [1, 10],
        "lines": {"ours": [[3, 1, 8], [30, 10, 80]], "theirs": [[1, 1, 1], [10, 10, 10]]},
    }


# Report


def test_table_is_aligned() -> None:
    shown = report.table(["name", "median"], [["a", "1"], ["longer", "100"]])
    assert shown == "name    median\n------  ------\na            1\nlonger     100"


@pytest.mark.parametrize(
    ("row", "met"),
    [
        (Row("a", "what", RATIO, 0.5), "NO"),
        (Row("a", "what", RATIO, 0.7), "yes"),
        (Row("a", "what", RATIO), "-"),
    ],
)
def test_line_of_a_figure(row: Row, met: str) -> None:
    cells = report.figure_cells(Figure(row, [0.6, 0.5, 0.9], "note"))
    bound = row.describe_bound()
    assert cells == ["a", "what", "0.60×", "0.50×", "0.90×", bound, met, "note"]
    assert len(cells) == len(report.HEADINGS)


def test_results_of_other_runs_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "results/figures.json"
    report.save_results(path, {"a": {"values": [1.5, 2]}, "b": {"values": [3]}})
    report.save_results(path, {"b": {"values": [4], "note": "["}})
    found = report.load_results(path)
    assert found["a"]["values"] == [1.5, 2]
    assert found["b"]["values"] == [4]
    assert found["b"]["note"] == "["
    assert found["b"]["machine"]["processors"] >= 1
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", found["b"]["measured"])
    assert '"values": [1.5, 2]' in path.read_text().replace("[ ", "[").replace(" ]", "]")


def test_nothing_measured_yet_is_no_error(tmp_path: Path) -> None:
    assert report.load_results(tmp_path / "none.json") == {}


# The command


def test_everything_is_measured_but_what_takes_too_long() -> None:
    everything = __main__.select([])
    assert "cpu-vs-tornado" in everything
    assert "faults" in everything
    assert "by-size" in everything
    assert "ci-run" not in everything
    assert __main__.select(["ci-run", "start"]) == ["ci-run", "start"]


def test_unknown_name_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(BenchmarkError, match=r"'nonsense'.*cpu-vs-tornado.*by-size"):
        __main__.select(["start", "nonsense"])


def test_every_benchmark_is_described() -> None:
    text = Path(__main__.__file__).with_name("README.md").read_text("utf-8")
    described = re.findall(r"^\| `([a-z0-9-]+)` \|", text, re.M)
    assert sorted(described) == sorted(__main__.NAMES)


def test_groups_are_asked_for_what_is_wanted_alone(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def group(*names: str) -> Any:
        rows = [Row(name, "", "") for name in names]

        def measured(_: Bench, wanted: set[str]) -> Iterator[Figure]:
            asked.append(wanted)
            return (Figure(row, [1]) for row in rows if row.name in wanted)

        return rows, measured

    monkeypatch.setattr(__main__, "GROUPS", [group("a", "b"), group("c"), group("d")])
    found = list(__main__.measure_figures(bench, ["d", "b"]))
    assert [figure.row.name for figure in found] == ["b", "d"]
    assert asked == [{"b"}, {"d"}]


def test_what_takes_too_long_is_shown_as_measured_last(tmp_path: Path) -> None:
    assert __main__.last_measured(tmp_path, ["ci-run"]) == []
    figure = Figure(toolchain.CI_RUN, [12.5])
    report.save_results(tmp_path / "figures.json", {"ci-run": figure.as_json()})
    [cells] = __main__.last_measured(tmp_path, ["ci-run"])
    assert cells[:3] == ["ci-run", "`.ci/run` of the template", "12.5 min"]
    assert re.fullmatch(r"on \d{4}-\d\d-\d\d", cells[-1])


# Instructions


@pytest.mark.parametrize(("ratio", "passed"), [(10.0, True), (10.99, True), (11.01, False)])
def test_more_than_ten_percent_is_too_much(ratio: float, passed: bool) -> None:
    reference = {"version": "1.2.3", "ratios": {"3.11": 10.0, "3.12": 100.0}}
    verdict = regression.judge(ratio, reference, "3.11")
    assert verdict.passed == passed
    assert f"{ratio:.2f}" in verdict.text
    assert "10.00 in version 1.2.3" in verdict.text
    assert ("more than 10%" in verdict.text) != passed


def test_python_without_a_reference_is_said_to_have_none() -> None:
    verdict = regression.judge(10, {"version": "1", "ratios": {"3.11": 1}}, "3.12")
    assert verdict.passed
    assert "no reference" in verdict.text


def test_reference_is_renewed_for_one_python_and_of_one_version() -> None:
    first = regression.renewed(10, {"ratios": {}}, "3.12", "1")
    second = regression.renewed(11, first, "3.11", "1")
    assert second == {"version": "1", "ratios": {"3.11": 11, "3.12": 10}}
    assert regression.renewed(12, second, "3.11", "2") == {"version": "2", "ratios": {"3.11": 12}}


def test_instructions_are_read_from_a_dump() -> None:
    assert regression.instructions("summary: 12\nfn=(1)\n3 4\ntotals: 1234567\n") == 1234567
    with pytest.raises(BenchmarkError, match="totals"):
        regression.instructions("events: Ir\n")


def test_reference_belongs_to_a_version() -> None:
    reference = json.loads(regression.REFERENCE.read_text("utf-8"))
    assert re.fullmatch(r"\d+\.\d+\.\d+", reference["version"])
    assert all(ratio > 1 for ratio in reference["ratios"].values())
    assert re.fullmatch(r"\d+\.\d+\.\d+", regression.template_version())
