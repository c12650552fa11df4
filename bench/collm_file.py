"""Files of CoLLM's format out of MovieLens, and MF on them.

python bench/collm_file.py ml-1m --out runs/bench/collm
python bench/collm_file.py ml-latest-small --shares 76 12 12 --out runs/bench/collm-small

uid, iid, title, label (rating above 3), timestamp and the last ten liked items as history, in
train.parquet, valid.parquet and test.parquet. CoLLM cuts the last twenty months of ML-1M into ten,
five and five (the default); --shares cuts all rows in order of time instead. Reads ML-1M's .dat
files or the CSV of later ones, and prints the table of

loram recommend evaluate OUT/train.parquet --valid … --test … --model mf
"""

import argparse
import subprocess
import sys
from pathlib import Path

import polars as pl

MONTH = 30.44 * 86_400  # seconds
LIKED = 10  # items of a history


def ratings(folder: Path) -> pl.DataFrame:
    """(uid, iid, rating, timestamp, title) in order of time."""
    if (folder / "ratings.dat").exists():
        rows = _dat(folder / "ratings.dat", ["uid", "iid", "rating", "timestamp"])
        titles = _dat(folder / "movies.dat", ["iid", "title", "genres"])
        rows = rows.cast({"rating": pl.Float64, "timestamp": pl.Int64})
    else:
        rows = pl.read_csv(folder / "ratings.csv").rename({"userId": "uid", "movieId": "iid"})
        titles = pl.read_csv(folder / "movies.csv").rename({"movieId": "iid"})
    joined = rows.join(titles.select("iid", "title"), on="iid", how="left", maintain_order="left")
    return joined.sort("timestamp", maintain_order=True)


def _dat(file: Path, names: list[str]) -> pl.DataFrame:
    lines = file.read_text(encoding="latin-1").splitlines()
    return pl.DataFrame([line.split("::") for line in lines], schema=names, orient="row")


def with_history(rows: pl.DataFrame) -> pl.DataFrame:
    """Labels, and what each user had liked before."""
    rows = rows.with_columns(label=(pl.col("rating") > 3).cast(pl.Int64))
    liked: dict[object, list[object]] = {}
    histories: list[list[object]] = []
    for user, item, label in rows.select("uid", "iid", "label").iter_rows():
        own = liked.setdefault(user, [])
        histories.append(own[-LIKED:])
        if label:
            own.append(item)
    rows = rows.with_columns(history=pl.Series(histories, dtype=pl.List(rows.schema["iid"])))
    return rows.select("uid", "iid", "title", "label", "timestamp", "history")


def parts(
    rows: pl.DataFrame, shares: list[float] | None, months: list[float]
) -> list[pl.DataFrame]:
    """Train, valid and test."""
    if shares is not None:
        first, second = (round(len(rows) * sum(shares[:k]) / sum(shares)) for k in (1, 2))
        return [rows[:first], rows[first:second], rows[second:]]
    time = pl.col("timestamp")
    end = rows["timestamp"].max()
    begins = [end - MONTH * sum(months[k:]) for k in range(3)]
    cuts = zip(begins, [*begins[1:], end], strict=True)
    return [rows.filter((time > low) & (time <= high)) for low, high in cuts]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--months", type=float, nargs=3, default=[10, 5, 5])
    parser.add_argument("--shares", type=float, nargs=3)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    files = [options.out / f"{name}.parquet" for name in ("train", "valid", "test")]
    made = parts(with_history(ratings(options.folder)), options.shares, options.months)
    for file, part in zip(files, made, strict=True):
        part.write_parquet(file)
        print(f"{file}: {len(part)} rows, {part['label'].mean():.3f} liked")
    train, valid, test = map(str, files)
    verb = [sys.executable, "-m", "loram", "recommend", "evaluate", train, "--model", "mf"]
    subprocess.run([*verb, "--valid", valid, "--test", test], check=True)


if __name__ == "__main__":
    main()
