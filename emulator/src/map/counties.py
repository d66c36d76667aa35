#!/usr/bin/env python3
"""Makes counties.json: the lines of California's 58 counties and their names.

usage: npm pack us-atlas@3.0.1 && tar xzf us-atlas-3.0.1.tgz && emulator/src/map/counties.py package/counties-10m.json > emulator/src/map/counties.json

us-atlas (ISC) repacks the US Census Bureau's cartographic boundary file of 2017, which is in the public domain. Lines are
simplified with Douglas-Peucker to 0.004 degrees and written as steps of 0.001 degrees, longitude first; each stands once, whichever
counties it divides. A name stands at the centre of its county's largest ring.
"""

import json
import math
import sys

STEPS = 1000
TOLERANCE = 0.004


def distance(point, start, end):
    (x, y), (x1, y1), (x2, y2) = point, start, end
    length = math.hypot(x2 - x1, y2 - y1)
    if length == 0:
        return math.hypot(x - x1, y - y1)
    return abs((x2 - x1) * (y1 - y) - (x1 - x) * (y2 - y1)) / length


def simplified(line):
    if len(line) < 3:
        return line
    far, at = max((distance(line[n], line[0], line[-1]), n) for n in range(1, len(line) - 1))
    if far <= TOLERANCE and line[0] != line[-1]:
        return [line[0], line[-1]]
    return simplified(line[: at + 1])[:-1] + simplified(line[at:])


def centre(ring):
    area = x = y = 0.0
    for (x1, y1), (x2, y2) in zip(ring, ring[1:] + ring[:1]):
        cross = x1 * y2 - x2 * y1
        area, x, y = area + cross, x + (x1 + x2) * cross, y + (y1 + y2) * cross
    return (abs(area), [round(x / (3 * area), 2), round(y / (3 * area), 2)]) if area else (0, list(ring[0]))


def main():
    topology = json.load(open(sys.argv[1]))
    (sx, sy), (tx, ty) = topology["transform"]["scale"], topology["transform"]["translate"]

    def line(number):
        x = y = 0
        points = []
        for dx, dy in topology["arcs"][number]:
            x, y = x + dx, y + dy
            points.append((x * sx + tx, y * sy + ty))
        return points

    def ring(numbers):
        return [point for n in numbers for point in (line(n) if n >= 0 else line(~n)[::-1])[:-1]]

    used, names = set(), []
    for county in topology["objects"]["counties"]["geometries"]:
        if not county["id"].startswith("06"):
            continue
        rings = [county["arcs"][0]] if county["type"] == "Polygon" else [polygon[0] for polygon in county["arcs"]]
        every = county["arcs"] if county["type"] == "Polygon" else [r for polygon in county["arcs"] for r in polygon]
        used.update(n if n >= 0 else ~n for numbers in every for n in numbers)
        names.append([county["properties"]["name"], *max(centre(ring(numbers)) for numbers in rings)[1]])
    lines = []
    for number in sorted(used):
        steps, before = [], (0, 0)
        for x, y in simplified(line(number)):
            here = (round(x * STEPS), round(y * STEPS))
            if here != before:
                steps += [here[0] - before[0], here[1] - before[1]]
                before = here
        lines.append(steps)
    assert len(names) == 58, len(names)
    print(json.dumps({"lines": lines, "names": sorted(names)}, separators=(",", ":")))


main()
