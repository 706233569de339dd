#!/usr/bin/env python3
"""Scores rounds as the subnet's original validator does, and says how long that takes.

Written after the recorded behaviour of the original (`tests/vectors/scoring`, and the notes of
`tests/vectors/rounds/evaluate_round.json`), with the same numpy calls where the notes name them.
The bench compares the averages with its own before it believes the times.

  python scoring.py --rounds ROUNDS.json --tables tables.json --folder FOLDER --repeat 400

ROUNDS.json: a list of {"closes": [...], "predictions": {hotkey: [...]}}. Prints one JSON object with
the times of

  score                    nothing is read or written
  score_and_store          averages read and written, the request's record written
  score_and_store_flushed  the same with a flush to disk, which the original does not do

The original also reads and removes one file a miner and request. That is left out in its favour: the
recordings do not show the files' format.
"""
import argparse
import json
import os
import time

import numpy as np

STEP_DECAY = 0.001
EMA_LENGTH = 48


def calculate_weighted_rmse(predictions, actual):
    predictions = np.array(predictions)
    weights = np.exp(-STEP_DECAY * np.arange(len(predictions)))
    squared = (predictions - actual) ** 2
    return np.sqrt(np.sum(weights * squared) / np.sum(weights))


def score_response(predictions, actual):
    if len(predictions) != len(actual) or len(predictions) == 0 or len(actual) < 2:
        raise ValueError("predictions and actual closes do not fit")
    return calculate_weighted_rmse(predictions, actual)


def simple_scale_scores(scores):
    low, high = min(scores.values()), max(scores.values())
    return {hotkey: 1 - (score - low) / (high - low) for hotkey, score in scores.items()}


def weigh_miner_scores(scores):
    if len(scores) == 1:
        return [(scores[0][0], 1.0)]
    values = [score for _, score in scores]
    low, high = min(values), max(values)
    scaled = [(hotkey, (score - low) / (high - low)) for hotkey, score in scores]
    total = sum(value for _, value in scaled)
    return [(hotkey, round(value / total, 4)) for hotkey, value in scaled]


def get_percentile(table, value):
    for index, bound in enumerate(table):
        if value < bound:
            return (index + 1) / 100
    return 1


def geometric_mean_of_percentile(tables, closes):
    ratio = get_percentile(tables["min_max"], closes.max() / closes.min())
    deviation = get_percentile(tables["std_dev"], np.std(closes))
    return np.sqrt(ratio * deviation)


def basic_ema(current, previous):
    alpha = 2 / (EMA_LENGTH + 1)
    return alpha * current + (1 - alpha) * previous


def update_weights(stored, scores, importance):
    average = float(np.mean(list(stored.values()))) if stored else 0.0
    fresh = dict(scores)
    result = {}
    for hotkey in list(stored) + [hotkey for hotkey in fresh if hotkey not in stored]:
        previous = stored.get(hotkey, average)
        current = (previous + fresh.get(hotkey, 0) * importance) / (1 + importance)
        result[hotkey] = float(basic_ema(current, previous))
    if any(np.isnan(value) for value in result.values()):
        raise ValueError("a weight is not a number")
    return result


def evaluate_round(tables, closes, predictions, stored):
    """Returns the averages after the round and the errors of its miners."""
    scores = {}
    for hotkey, values in predictions.items():
        if not np.isnan(values).any() and len(values) == len(closes):
            scores[hotkey] = score_response(values, closes)
    if not scores:
        return stored, scores
    if np.var(list(scores.values())) == 0:
        weighed = [(hotkey, 1 / len(scores)) for hotkey in scores]
    else:
        scaled = simple_scale_scores(scores)
        ranking = sorted(scaled.items(), key=lambda item: item[1], reverse=True)
        weighed = weigh_miner_scores(ranking)
    return update_weights(stored, weighed, geometric_mean_of_percentile(tables, closes)), scores


class Storage:
    """The original's files: the averages, and the record of the request."""

    def __init__(self, folder, flushes):
        self.folder = folder
        self.flushes = flushes
        os.makedirs(folder)

    def path(self, name):
        return os.path.join(self.folder, name + ".json")

    def write(self, name, value):
        with open(self.path(name), "w") as file:
            file.write(json.dumps(value))
            if self.flushes:
                file.flush()
                os.fsync(file.fileno())

    def read(self, name):
        with open(self.path(name)) as file:
            return json.loads(file.read())

    def evaluate(self, tables, closes, predictions):
        stored = self.read("weights") if os.path.exists(self.path("weights")) else {}
        weights, scores = evaluate_round(tables, closes, predictions, stored)
        self.write("weights", weights)
        miners = [
            {"miner_id": hotkey, "wins": 0, "win_value": 0, "unscaled_scores": [[0, scores[hotkey]]],
             "win_scores": [[0, weights[hotkey]]]}
            for hotkey in scores
        ]
        stream = {"stream_id": "BTCUSD-5m", "topic_id": 1, "request_uuid": "request-1", "miners": miners}
        self.write("record", {"clients": [{"client_uuid": "client-1", "streams": [stream]}]})


def percentiles(name, seconds):
    p50, p99 = np.percentile(np.array(seconds) * 1000, [50, 99])
    return {f"{name}_p50_ms": p50, f"{name}_p99_ms": p99}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", required=True)
    parser.add_argument("--tables", required=True)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--repeat", type=int, default=400)
    options = parser.parse_args()
    with open(options.tables) as file:
        tables = json.load(file)
    with open(options.rounds) as file:
        rounds = json.load(file)
    # The original's feature source delivers single precision.
    rounds = [(np.array(one["closes"], dtype=np.float32), one["predictions"]) for one in rounds]

    storages = {
        "score_and_store": Storage(os.path.join(options.folder, "plain"), False),
        "score_and_store_flushed": Storage(os.path.join(options.folder, "flushed"), True),
    }
    times = {name: [] for name in ["score", *storages]}
    weights, first = {}, None
    for repetition in range(options.repeat):
        closes, predictions = rounds[repetition % len(rounds)]
        begun = time.perf_counter()
        weights, _ = evaluate_round(tables, closes, predictions, weights)
        times["score"].append(time.perf_counter() - begun)
        for name, storage in storages.items():
            begun = time.perf_counter()
            storage.evaluate(tables, closes, predictions)
            times[name].append(time.perf_counter() - begun)
        if repetition + 1 == len(rounds):
            first = dict(weights)
    result = {"weights": first}
    for name, seconds in times.items():
        result.update(percentiles(name, seconds))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
