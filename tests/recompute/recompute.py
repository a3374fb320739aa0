"""Computes a study's differences, intervals and p-values again, from `records.parquet` alone, and compares them with
`results.json`. Uses numpy, scipy and statsmodels, and none of the project's code.

    python recompute.py STUDY_FOLDER
"""

import json
import sys

import numpy as np
import pandas as pd
from scipy import optimize, stats
from statsmodels.formula.api import wls
from statsmodels.stats.multitest import multipletests

TOLERANCE = 1e-6
# A p-value changes by about ten times as much as its difference and its error.
TOLERANCE_OF_P = 1e-4


def weighted_mean(weights, x):
    """CR2 variance of a weighted mean, its degrees of freedom, its concentration, and the factors of squares."""
    share = weights / weights.sum()
    value = share @ x
    concentration = share @ share
    # The covariance of residuals if every unit has variance 1: (I - 1 p') (I - 1 p')'.
    left = np.eye(len(share)) - np.outer(np.ones(len(share)), share)
    covariance = left @ left.T
    factors = share**2 / np.diag(covariance)
    variance = factors @ (x - value) ** 2
    spread = np.outer(factors, factors) * covariance**2
    satterthwaite = (factors @ np.diag(covariance)) ** 2 / spread.sum()
    freedom = max(satterthwaite, (satterthwaite + 1 / concentration - 1) / 2)
    return value, variance, freedom, concentration, factors


def crossed(cells, tokens, by_user, factors):
    """The variance from trainings, from weighted fits of statsmodels: with users alone, and with users and trainings."""
    table = cells.reset_index()
    fit = wls("y ~ C(user) + C(training)", data=table, weights=table["tokens"]).fit()
    # `anova_lm` leaves the weights out, so the sum of squares is the difference of two fits.
    explained = wls("y ~ C(user)", data=table, weights=table["tokens"]).fit().ssr - fit.ssr
    trainings = sorted(table["training"].unique())
    counts = table.groupby("user").size()
    laplacian = pd.DataFrame(0.0, index=trainings, columns=trainings)
    for user, group in table.groupby("user"):
        own = group["training"].to_list()
        laplacian.loc[own, own] += tokens[user] * (np.eye(len(own)) - 1 / len(own))
    inverse = np.linalg.pinv(laplacian.to_numpy())
    place = {training: index for index, training in enumerate(trainings)}
    table["residual"] = fit.resid
    few = len(counts) / (len(counts) - 1)
    of_rest = 0.0
    for user, group in table.groupby("user"):
        at = [place[training] for training in group["training"]]
        residual = group["residual"].to_numpy()
        of_rest += tokens[user] ** 2 * residual @ inverse[np.ix_(at, at)] @ residual
    trace = np.trace(laplacian.to_numpy())
    between = max(0.0, explained - 0.5 * few * of_rest) / trace
    total = tokens.sum()
    shares = np.zeros(len(trainings))
    for user, group in table.groupby("user"):
        for training in group["training"]:
            shares[place[training]] += tokens[user] / total / counts[user]
    own = shares @ shares
    held = 0.0
    for factor, user in zip(factors, by_user.index):
        at = [place[training] for training in table.loc[table["user"] == user, "training"]]
        held += factor * (1 / counts[user] - 2 * shares[at].sum() / counts[user] + own)
    freedom = trace**2 / (laplacian.to_numpy() ** 2).sum()
    return max(0.0, own - held) * between, freedom


def recompute(a, b):
    """The inference of b - a over items of both arms."""
    keys = ["user", "item", "fold", "seed"]
    if a["seed"].isna().all():
        a = b[keys].merge(a.drop(columns=["fold", "seed"]), on=["user", "item"])
    both = a.merge(b, on=keys, suffixes=("_a", "_b"))
    assert len(both) == len(b)
    both["nats"] = both["nats_b"] - both["nats_a"]
    folds = both["fold"].nunique()
    both["training"] = both["seed"] if folds == 1 else both["fold"]
    tokens = both.drop_duplicates("item").groupby("user")["tokens_a"].sum().astype(float)
    per_seed = both["seed"].nunique() if folds > 1 else 1
    cells = both.groupby(["user", "training"])["nats"].sum() / per_seed
    cells = cells.to_frame("nats").join(tokens.rename("tokens"), on="user")
    cells["y"] = cells["nats"] / cells["tokens"]
    by_user = cells.groupby("user")["y"].mean()
    value, variance, freedom, _, factors = weighted_mean(tokens.to_numpy(), by_user.to_numpy())
    models = stats.t.ppf(0.975, freedom) * np.sqrt(variance)
    found = {"value": value, "models": (value - models, value + models)}
    trainings = cells.index.get_level_values("training").nunique()
    if trainings < 2:
        return found
    if cells.groupby("user").size().max() == 1:
        units = cells.reset_index().groupby("training")[["nats", "tokens"]].sum()
        _, total, of_trainings, _, _ = weighted_mean(units["tokens"].to_numpy(), (units["nats"] / units["tokens"]).to_numpy())
        weight = 1.0
        freedom_of_trainings = of_trainings
    else:
        part, freedom_of_trainings = crossed(cells, tokens, by_user, factors)
        total = variance + part
        share = part / total
        weight = max(0.0, (share - 0.1) / 0.9) ** min(1.0, max(0.4, 0.6 * freedom_of_trainings - 0.2))

    def critical(p):
        of_users, of_trainings = stats.t.isf(p / 2, freedom), stats.t.isf(p / 2, freedom_of_trainings)
        return of_users + weight * (of_trainings - of_users)

    half_width = critical(0.05) * np.sqrt(total)
    found["interval"] = (value - half_width, value + half_width)
    wanted = abs(value) / np.sqrt(total)
    found["p"] = optimize.brentq(lambda p: critical(p) - wanted, 1e-15, 1.0, xtol=1e-14)
    return found


def close(what, ours, theirs, tolerance=TOLERANCE):
    ours, theirs = np.asarray(ours, float), np.asarray(theirs, float)
    assert np.allclose(ours, theirs, rtol=tolerance, atol=tolerance * 1e-2), f"{what}: {theirs} here, {ours} in results.json"


def ends(interval):
    return interval["low"], interval["high"]


def main(folder):
    records = pd.read_parquet(f"{folder}/records.parquet")
    results = json.load(open(f"{folder}/results.json"))
    records = records[records["kind"] == "next_prompt"]
    primary = records.loc[records["primary"], "item"].unique()
    family = []
    for comparison in results["comparisons"] + results["training_gains"]:
        for contrast in comparison["contrasts"]:
            if contrast["losses"] is None or contrast["subset"] == "primary_without_quotes":
                continue
            arms = [records[records["arm"] == comparison[arm]] for arm in ("arm_a", "arm_b")]
            if contrast["subset"] == "primary":
                arms = [arm[arm["item"].isin(primary)] for arm in arms]
            name = f"{comparison['arm_b']} - {comparison['arm_a']} ({contrast['subset']})"
            found = recompute(*arms)
            ratio = contrast["losses"]["difference"]["ratio"]
            close(f"{name}: difference", ratio["value"], found["value"])
            close(f"{name}: interval of models", ends(ratio["of_models"]["student_t"]), found["models"])
            if ratio["interval"] is not None:
                close(f"{name}: interval", ends(ratio["interval"]), found["interval"])
                close(f"{name}: p", contrast["losses"]["difference"]["p"], found["p"], TOLERANCE_OF_P)
            evidence = contrast["losses"]["evidence"]
            if evidence is not None and evidence["p_different"] is not None and not comparison["primary"]:
                family.append((name, found["p"], evidence["p_different"]))
    if family:
        # Without a margin, the family holds one p-value for each comparison.
        corrected = multipletests([p for _, p, _ in family], method="holm")[1]
        for (name, _, theirs), p in zip(family, corrected):
            close(f"{name}: corrected p", theirs, p, TOLERANCE_OF_P)
    print(f"{folder}: {len(family)} corrected p-values and all differences and intervals agree")


if __name__ == "__main__":
    main(sys.argv[1])
