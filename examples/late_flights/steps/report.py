"""Puts a table and two pictures on one page."""

import csv
import pathlib
import sys
from html import escape

late, table, chart, weather = sys.argv[1], *map(pathlib.Path, sys.argv[2:5])

with table.open(newline="") as rows:
    rows = [
        f"<tr><td>{escape(row['airline'])}<td>{int(row['flights']):,}<td>{float(row['mean_delay']):.1f} min"
        f"<td>{float(row['late']):.1%}"
        for row in csv.DictReader(rows)
    ]

print(f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Late flights</title>
<style>
  body {{ font-family: sans-serif; max-width: 820px; margin: 2em auto; color: #333; }}
  table {{ border-collapse: collapse; width: 100%; }}
  td, th {{ padding: 4px 8px; border-bottom: 1px solid #ddd; text-align: right; }}
  td:first-child, th:first-child {{ text-align: left; }}
</style>
<h1>Late flights from New York, 2013</h1>
<p>A flight counts as late when it leaves {late} minutes or more after its time.</p>
{chart.read_text(encoding="utf-8")}
{weather.read_text(encoding="utf-8")}
<h2>Airlines, the most punctual first</h2>
<table>
<tr><th>airline<th>flights<th>mean delay<th>late
{chr(10).join(rows)}
</table>
</html>""")
