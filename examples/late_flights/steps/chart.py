"""Draws the share of late departures by hour, one line an airport.

Takes the threshold in minutes, the picture to write, and one table an airport, each named for it.
"""

import csv
import pathlib
import sys

from svg import COLOURS, FAINT, INK, line, page, path, text

late, picture, tables = sys.argv[1], sys.argv[2], [pathlib.Path(name) for name in sys.argv[3:]]
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 820, 420, 60, 70, 60, 50

series = []
for table in tables:
    with table.open(newline="") as rows:
        series.append((table.stem, [(int(hour), float(share)) for hour, _, share in csv.reader(rows)]))

hours = [hour for _, points in series for hour, _ in points]
first, last = min(hours), max(hours)
top = max(share for _, points in series for _, share in points)
step = 0.1 if top > 0.25 else 0.05
top = step * (int(top / step) + 1)


def place(hour, share):
    x = LEFT + (WIDTH - LEFT - RIGHT) * (hour - first) / (last - first)
    return x, HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share / top


shapes = [text(LEFT, 32, f"Flights that left at least {late} minutes late", 18, "start", weight="bold")]
for index in range(round(top / step) + 1):
    _, y = place(first, index * step)
    shapes += [line(LEFT, y, WIDTH - RIGHT, y, FAINT), text(LEFT - 8, y + 4, f"{index * step:.0%}", anchor="end")]
for hour in range(first, last + 1, 2):
    x, y = place(hour, 0)
    shapes += [line(x, y, x, y + 5, INK), text(x, y + 20, f"{hour}:00")]
shapes.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, "scheduled departure, New York City, 2013", 12))

# Names stand at the ends of their lines, a line's height apart.
ends = sorted((place(*points[-1])[1], number) for number, (_, points) in enumerate(series))
labels, lowest = {}, -100.0
for y, number in ends:
    lowest = max(y, lowest + 16)
    labels[number] = lowest
for number, (name, points) in enumerate(series):
    colour = COLOURS[number % len(COLOURS)]
    shapes.append(path([place(*point) for point in points], colour))
    x, _ = place(*points[-1])
    shapes.append(text(x + 8, labels[number] + 4, name, anchor="start", colour=colour, weight="bold"))

pathlib.Path(picture).write_text(page(WIDTH, HEIGHT, shapes), encoding="utf-8")
