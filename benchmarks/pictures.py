"""Draws the series that have been measured."""

from pathlib import Path
from typing import Any

BACKGROUND, PANEL, TEXT, GRID = "#111217", "#181b1f", "#ccccdc", "#2a2d33"
COLOURS = ["#73bf69", "#5794f2", "#ff9830", "#f2495c"]
"""Those of docs/dashboard.png; the service's is the first."""


def draw(series: dict[str, Any], path: Path) -> None:
    """Draw a line for each server, with the range between minimum and maximum."""
    # Here, because nothing else needs it and the tools for tests have no Matplotlib.
    import matplotlib as mpl
    from matplotlib import pyplot as plt

    mpl.use("agg")
    for name in ("text.color", "axes.labelcolor", "axes.titlecolor", "xtick.color", "ytick.color"):
        mpl.rcParams[name] = TEXT
    figure, axes = plt.subplots(figsize=(7.5, 4), facecolor=BACKGROUND, layout="constrained")
    axes.set_facecolor(PANEL)
    for colour, (title, points) in zip(COLOURS, series["lines"].items(), strict=True):
        middle, low, high = zip(*points, strict=True)
        axes.plot(series["x"], middle, "o-", label=title, color=colour, linewidth=1.6)
        axes.fill_between(series["x"], low, high, color=colour, alpha=0.15)
    axes.set_title(series["title"], loc="left", weight="bold")
    axes.set_xlabel(series["x_label"])
    axes.set_ylabel(series["y_label"])
    axes.set_xscale("log")
    axes.set_xticks(series["x"], [f"{x:,}" for x in series["x"]])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.grid(axis="y", color=GRID, linewidth=0.6)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.legend(frameon=False, fontsize=9)
    figure.savefig(path, dpi=110, facecolor=BACKGROUND)
    plt.close(figure)
