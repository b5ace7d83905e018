"""Joins departures with the weather of their hour; prints kind of weather, departures, share of late ones."""

import csv
import sys

airport, late, departures, weather = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]

KINDS = ["calm and clear", "windy", "rain or snow", "fog"]


def kind(row):
    """What a traveller would call this hour's weather."""
    number = lambda name: float(row[name]) if row[name] not in ("", "NA") else None
    precipitation, visibility, wind = number("precip"), number("visib"), number("wind_speed")
    if precipitation:
        return "rain or snow"
    if visibility is not None and visibility < 3:
        return "fog"
    if wind is not None and wind >= 20:
        return "windy"
    return "calm and clear"


hours = {}
with open(weather, newline="") as table:
    for row in csv.DictReader(table):
        if row["origin"] == airport:
            hours[row["month"], row["day"], row["hour"]] = kind(row)

seen = {name: [0, 0] for name in KINDS}
with open(departures, newline="") as table:
    for row in csv.DictReader(table):
        hour = str(int(row["sched_dep_time"]) // 100)
        name = hours.get((row["month"], row["day"], hour))
        if name is not None:
            seen[name][0] += 1
            seen[name][1] += float(row["dep_delay"]) >= late

for name, (count, bad) in seen.items():
    if count:
        print(f"{name},{count},{bad / count:.4f}")
