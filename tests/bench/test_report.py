"""What a report looks like: digits, bounds, Markdown, JSON, plots."""

import math
from pathlib import Path
from xml.etree import ElementTree as ET

import orjson
import pytest

from infra.bench.figures import Bars, Curves, Figure, Lines, Plot, Result
from infra.bench.plots import shares, svg
from infra.bench.report import markdown, rows, shown, write_report
from infra.errors import UsageError

BARS = Bars(file="bars.svg", title="a < b", unit="µs", bars={"whole": {"kafka": 10.0, "streams": 30.0}, "floor": {"floor": math.nan}})
CURVES = Curves(file="curves.svg", title="times", values_ms={"reply": [1.0, 2.0, 400.0], "nothing": []})
LINES = Lines(file="lines.svg", title="memory", unit="MB", points={"kafka": [(0.0, 100.0), (1.0, 200.0)], "nothing": []})
RESULT = Result(
    name="cost",
    about="What was done.",
    figures=[
        Figure(name="whole", value=31.0, unit="times", how="divided", must=30.0, goal=20.0),
        Figure(name="unknown", value=math.nan, unit="µs", how="not at all"),
    ],
    plots=[BARS, CURVES],
)


@pytest.mark.parametrize(
    ("value", "text"), [(3.0, "3"), (3.14159, "3.14"), (31.4159, "31.4"), (3141.59, "3,142"), (math.nan, "-"), (0.0, "0"), (-4.56, "-4.56")]
)
def test_digits(value: float, text: str) -> None:
    assert shown(value) == text


def test_markdown_says_what_was_missed_and_how_it_was_measured() -> None:
    text = markdown([RESULT], machine={"cores": "2"})
    assert "| whole | 31 times | at most 30, goal 20 | MISSED | divided |" in text
    assert "- cores: 2" in text
    assert "![a < b](bars.svg)" in text


def test_a_report_is_written(tmp_path: Path) -> None:
    path = write_report(tmp_path / "new", [RESULT], machine={"cores": "2"})
    assert path.read_text().startswith("# What")
    read = orjson.loads((tmp_path / "new" / "report.json").read_bytes())
    first, second = read["scenarios"]["cost"]["figures"]
    assert (first["value"], first["verdict"], second["value"]) == (31.0, "missed", None)
    assert rows([RESULT])[0]["verdict"] == "MISSED"


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="--report"):
        write_report(tmp_path / "file" / "in", [RESULT], machine={})


@pytest.mark.parametrize(
    "plot",
    [
        BARS,
        CURVES,
        LINES,
        Bars(file="", title="", unit="", bars={}),
        Curves(file="", title="", values_ms={}),
        Lines(file="", title="", unit="", points={}),
    ],
)
def test_plots_are_svg(plot: Plot) -> None:
    """Whatever is missing, a plot is a well-formed drawing without values that are no numbers."""
    text = svg(plot)
    assert ET.fromstring(text).tag.endswith("svg")  # noqa: S314  # our own text
    assert "nan" not in text.replace("<title>", "")


def test_bars_are_as_long_as_their_values() -> None:
    drawn = ET.fromstring(svg(BARS))  # noqa: S314  # our own text
    widths = [float(each.attrib["width"]) for each in drawn.iter() if each.tag.endswith("rect") and each.attrib.get("height") == "22"]
    assert widths[1] == pytest.approx(3 * widths[0], rel=0.01)
    assert widths[2] == 0


def test_a_line_goes_up_where_its_values_do() -> None:
    drawn = ET.fromstring(svg(LINES))  # noqa: S314  # our own text
    line = next(each.attrib["points"] for each in drawn.iter() if each.tag.endswith("polyline"))
    (first_x, first_y), (last_x, last_y) = ((float(part) for part in point.split(",")) for point in line.split())
    assert last_x > first_x
    assert last_y < first_y


def test_a_curve_ends_at_the_longest() -> None:
    points = shares([3.0, 1.0, 2.0])
    assert points[0][0] == 1.0
    assert points[-1] == (3.0, 1.0)
    assert shares([]) == []
