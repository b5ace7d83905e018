"""Draws the share of late departures by kind of weather, one bar an airport.

Takes the threshold in minutes, the picture to write, and one table an airport, each named for it.
"""

import csv
import pathlib
import sys

from svg import COLOURS, FAINT, box, line, page, text

late, picture, tables = sys.argv[1], sys.argv[2], [pathlib.Path(name) for name in sys.argv[3:]]
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 820, 360, 60, 20, 80, 40

kinds, shares = [], {}
for number, table in enumerate(tables):
    with table.open(newline="") as rows:
        for kind, _, share in csv.reader(rows):
            if kind not in kinds:
                kinds.append(kind)
            shares[kind, number] = float(share)

top = 0.1 * (int(max(shares.values()) / 0.1) + 1)
height = lambda share: (HEIGHT - TOP - BOTTOM) * share / top
shapes = [text(LEFT, 32, f"Left at least {late} minutes late, by weather", 18, "start", weight="bold")]
for index in range(round(top / 0.1) + 1):
    y = HEIGHT - BOTTOM - height(index * 0.1)
    shapes += [line(LEFT, y, WIDTH - RIGHT, y, FAINT), text(LEFT - 8, y + 4, f"{index * 0.1:.0%}", anchor="end")]

group = (WIDTH - LEFT - RIGHT) / len(kinds)
bar = group * 0.7 / len(tables)
for place, kind in enumerate(kinds):
    begin = LEFT + group * place + group * 0.15
    shapes.append(text(begin + group * 0.35, HEIGHT - 14, kind))
    for number in range(len(tables)):
        share = shares.get((kind, number))
        if share is not None:
            x, y = begin + bar * number, HEIGHT - BOTTOM - height(share)
            shapes += [box(x, y, bar - 3, height(share), COLOURS[number % len(COLOURS)])]
            shapes += [text(x + (bar - 3) / 2, y - 5, f"{share:.0%}", 11)]
for number, table in enumerate(tables):
    x = LEFT + 90 * number
    shapes += [box(x, 46, 12, 12, COLOURS[number % len(COLOURS)]), text(x + 18, 57, table.stem, anchor="start")]

pathlib.Path(picture).write_text(page(WIDTH, HEIGHT, shapes), encoding="utf-8")
