#!/usr/bin/env python3
"""Plots of what `cargo xtask bench --json FILE` found, as SVG.

    pip install matplotlib
    python3 tests/tasks/bench-plots.py FILE [DIRECTORY]

Writes flows.svg, live.svg, throughput.svg, latency.svg and failover.svg into DIRECTORY (by default, the current one);
each only if FILE has figures for it.
"""

import json
import pathlib
import sys

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot


def save(figure, directory, name):
    figure.savefig(directory / f"{name}.svg", bbox_inches="tight")
    pyplot.close(figure)
    print(directory / f"{name}.svg")


def flows(results):
    """Raw cost of steady TCP against the number of flows, in nanoseconds and over the program that moves the head."""
    paths = {}
    for row in results["rows"]:
        if (row["protocol"], row["state"], row["services"]) == ("tcp", "steady", 1):
            paths.setdefault(f"{row['mode']} {row['family']}", []).append(row)
    if not paths:
        return None
    figure, (cost, ratio) = pyplot.subplots(1, 2, figsize=(11, 4))
    for path, rows in paths.items():
        rows.sort(key=lambda row: row["flows"])
        numbers = [row["flows"] for row in rows]
        cost.plot(numbers, [row["raw_ns"] for row in rows], marker="o", label=path)
        ratio.plot(numbers, [row["ratio_head"] for row in rows], marker="o", label=path)
    for axes, what in ((cost, "ns a packet, driver included"), (ratio, "times the program that moves the head")):
        axes.set(xscale="log", xlabel="flows", ylabel=what, ylim=0)
    ratio.legend()
    return figure


def bars(names, values, what):
    figure, axes = pyplot.subplots(figsize=(8, 0.4 * len(names) + 1))
    axes.bar_label(axes.barh(names, values), fmt="{:,.0f}", padding=3)
    axes.invert_yaxis()
    axes.set_xlabel(what)
    return figure


def live(results):
    rows = results["live"]
    names = [f"{row['mode']} {row['family']} {row['protocol']}, {row['flows']:,} flows" for row in rows]
    return bars(names, [row["packets_per_second"] for row in rows], "packets/s of one processor") if rows else None


def throughput(results):
    peers = results["peers"]
    values = [peer["connections_per_second"] for peer in peers]
    return bars([peer["name"] for peer in peers], values, "new connections/s") if peers else None


def latency(results):
    if not results["peers"]:
        return None
    figure, axes = pyplot.subplots(figsize=(8, 4))
    for peer in results["peers"]:
        found = peer["latency"]
        axes.plot(["p50", "p99", "p99.9"], [found["p50_us"], found["p99_us"], found["p999_us"]], "o-", label=peer["name"])
    axes.set(yscale="log", ylabel="µs, from when a request was due")
    axes.legend()
    return figure


def failover(results):
    if not results["peers"]:
        return None
    figure, axes = pyplot.subplots(figsize=(9, 4))
    for peer in results["peers"]:
        found = peer["failover"]
        times = [(tenth - found["died_at"]) / 10 for tenth in range(len(found["answers"]))]
        axes.plot(times, [10 * answers for answers in found["answers"]], label=peer["name"])
    axes.set(xlabel="s after a backend died", ylabel="answers/s", ylim=0)
    axes.legend()
    return figure


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    results = json.loads(pathlib.Path(sys.argv[1]).read_text())
    directory = pathlib.Path(sys.argv[2] if len(sys.argv) == 3 else ".")
    directory.mkdir(parents=True, exist_ok=True)
    for plot in (flows, live, throughput, latency, failover):
        figure = plot(results)
        if figure is not None:
            save(figure, directory, plot.__name__)


if __name__ == "__main__":
    main()
