#!/usr/bin/env python3
"""Merges the bars of several exchanges with pandas, and says how long that takes.

  python aggregate.py FOLDER

FOLDER holds one CSV file an exchange: open_time_ms,open,high,low,close,volume. What is timed is the
merge of the tables in memory: closes more than 2 % away from the median of their interval are left
out, of the rest open and close are the mean, high the maximum, low the minimum, volume the sum, and
an interval needs two exchanges. Two ways are measured, and the faster one counts: `groupby` over the
stacked tables, and arithmetic over columns that are joined side by side.

Prints one JSON object with the time and the sum of each column, by which the bench sees whether the
result is its own.
"""
import json
import pathlib
import statistics
import sys
import time

import numpy as np
import pandas as pd

FIELDS = {"open": "mean", "high": "max", "low": "min", "close": "mean", "volume": "sum"}
QUORUM = 2
OUTLIER_PART = 0.02
RUNS = 9


def by_groups(tables):
    stacked = pd.concat(tables)
    median = stacked.groupby("open_time_ms")["close"].transform("median")
    near = stacked[((stacked["close"] - median).abs() / median) <= OUTLIER_PART]
    groups = near.groupby("open_time_ms")
    merged = groups.agg(FIELDS)
    return merged[groups.size() >= QUORUM]


def side_by_side(tables):
    wide = pd.concat([table.set_index("open_time_ms") for table in tables], axis=1, keys=range(len(tables)))
    columns = {name: wide.xs(name, axis=1, level=1).to_numpy() for name in FIELDS}
    close = columns["close"]
    median = np.nanmedian(close, axis=1)[:, None]
    near = (np.abs(close - median) / median) <= OUTLIER_PART
    kept = {name: np.where(near, values, np.nan) for name, values in columns.items()}
    merged = pd.DataFrame(
        {
            "open": np.nanmean(kept["open"], axis=1),
            "high": np.nanmax(kept["high"], axis=1),
            "low": np.nanmin(kept["low"], axis=1),
            "close": np.nanmean(kept["close"], axis=1),
            "volume": np.nansum(kept["volume"], axis=1),
        },
        index=wide.index,
    )
    return merged[near.sum(axis=1) >= QUORUM].sort_index()


def main():
    files = sorted(pathlib.Path(sys.argv[1]).glob("*.csv"))
    tables = [pd.read_csv(file) for file in files]
    times, results = {}, {}
    for way in (by_groups, side_by_side):
        samples = []
        for _ in range(RUNS):
            begun = time.perf_counter()
            results[way.__name__] = way(tables)
            samples.append((time.perf_counter() - begun) * 1e3)
        times[way.__name__] = statistics.median(samples)
    best = min(times, key=times.get)
    merged = results[best]
    sums = {name: float(merged[name].sum()) for name in FIELDS}
    others = ", ".join(f"{name} {value:.1f} ms" for name, value in times.items() if name != best)
    name = f"pandas {pd.__version__}, {best} ({others})"
    print(json.dumps({"name": name, "p50_ms": times[best], "count": len(merged), **sums}))


if __name__ == "__main__":
    main()
