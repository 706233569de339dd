#!/usr/bin/env python3
"""Scores rounds as the subnet's original validator does, and says how long that takes.

Written after the recorded behaviour of the original (`tests/vectors/scoring`, and the notes of
`tests/vectors/rounds/evaluate_round.json`), with the same numpy calls where the notes name them.
The bench compares the averages with its own before it believes the times.

  python scoring.py --rounds ROUNDS.json --tables tables.json --store weights.json --repeat 400

ROUNDS.json: a list of {"closes": [...], "predictions": {hotkey: [...]}}. Prints one JSON object.
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
    scores = {}
    for hotkey, values in predictions.items():
        if not np.isnan(values).any() and len(values) == len(closes):
            scores[hotkey] = score_response(values, closes)
    if not scores:
        return stored
    if np.var(list(scores.values())) == 0:
        weighed = [(hotkey, 1 / len(scores)) for hotkey in scores]
    else:
        scaled = simple_scale_scores(scores)
        ranking = sorted(scaled.items(), key=lambda item: item[1], reverse=True)
        weighed = weigh_miner_scores(ranking)
    return update_weights(stored, weighed, geometric_mean_of_percentile(tables, closes))


def load_weights(path):
    if not os.path.exists(path):
        return {}
    with open(path) as file:
        return json.load(file)


def store_weights(path, weights):
    with open(path, "w") as file:
        json.dump(weights, file)


def percentiles(name, seconds):
    p50, p99 = np.percentile(np.array(seconds) * 1000, [50, 99])
    return {f"{name}_p50_ms": p50, f"{name}_p99_ms": p99}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", required=True)
    parser.add_argument("--tables", required=True)
    parser.add_argument("--store", required=True)
    parser.add_argument("--repeat", type=int, default=400)
    options = parser.parse_args()
    with open(options.tables) as file:
        tables = json.load(file)
    with open(options.rounds) as file:
        rounds = json.load(file)
    # The original's feature source delivers single precision.
    rounds = [(np.array(one["closes"], dtype=np.float32), one["predictions"]) for one in rounds]

    scoring, storing, weights, first = [], [], {}, None
    for number in range(options.repeat):
        closes, predictions = rounds[number % len(rounds)]
        begun = time.perf_counter()
        weights = evaluate_round(tables, closes, predictions, weights)
        scoring.append(time.perf_counter() - begun)
        begun = time.perf_counter()
        store_weights(options.store, evaluate_round(tables, closes, predictions, load_weights(options.store)))
        storing.append(time.perf_counter() - begun)
        if number + 1 == len(rounds):
            first = dict(weights)
    print(json.dumps({**percentiles("score", scoring), **percentiles("score_and_store", storing), "weights": first}))


if __name__ == "__main__":
    main()
