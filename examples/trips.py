#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Groups bicycle trips by rider and kind of bicycle: number, minutes, distance, speed.

usage: trips.py [FILE]      (no FILE: standard input)

data/trips.csv holds two weeks of a bicycle hire. It was generated: it shows no real place or person.
"""
import csv
import statistics
import sys
from collections import defaultdict


def read_trips(lines):
    for row in csv.DictReader(lines):
        # A round trip has no distance: the bicycle came back to where it was taken.
        km = float(row["km"]) if row["km"] else None
        yield row["rider"], row["bike"], int(row["minutes"]), km


def summarize(trips):
    groups = defaultdict(list)
    for rider, bike, minutes, km in trips:
        groups[rider, bike].append((minutes, km))
        groups["all", ""].append((minutes, km))
    return groups


def print_table(groups):
    head = ("rider", "bike", "trips", "median min", "p90 min", "mean km", "km/h")
    line = "{:<8}{:<10}{:>7}{:>12}{:>9}{:>9}{:>7}"
    print(line.format(*head))
    for (rider, bike), rows in sorted(groups.items(), key=lambda g: (g[0][0] == "all", g[0])):
        minutes = [m for m, _ in rows]
        rides = [(m, km) for m, km in rows if km is not None]
        km = sum(k for _, k in rides)
        print(line.format(rider, bike, len(rows), f"{statistics.median(minutes):.1f}",
                          f"{statistics.quantiles(minutes, n=10)[-1]:.1f}",
                          f"{km / len(rides):.2f}", f"{km / sum(m for m, _ in rides) * 60:.1f}"))


def main():
    with open(sys.argv[1]) if len(sys.argv) > 1 else sys.stdin as lines:
        print_table(summarize(read_trips(lines)))


if __name__ == "__main__":
    main()
