"""Q[r] by randomised SVD against the exact one, on the layers of SmolLM2 and MiniLM.

Relative error of the estimate, the width of the bounds that are printed with it, and in how many
layers these enclose the exact value. There is no fallback to the exact decomposition in between.

python bench/gains.py [--rank 16]
"""

import argparse
import statistics

from loram.bench.table import report
from loram.figures.spectra import pretrained_kinds
from loram.magnitude import spectral_gain
from loram.spectrum import gain_bounds

ROUNDING = 1e-5  # of float32, in which the weights are multiplied


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rank", type=int, default=16)
    options = parser.parse_args()
    rows: list[dict[str, object]] = []
    for model, kinds in pretrained_kinds().items():
        for kind, weights in kinds.items():
            errors, widths, enclosed = list[float](), list[float](), 0
            for W in weights:
                exact, (low, high) = spectral_gain(W, options.rank), gain_bounds(W, options.rank)
                errors.append(abs(low / exact - 1))
                widths.append(high / low - 1)
                enclosed += low * (1 - ROUNDING) <= exact <= high * (1 + ROUNDING)
            rows.append(
                {
                    "model": model,
                    "kind": kind,
                    "median error": statistics.median(errors),
                    "largest error": max(errors),
                    "widest bounds": max(widths),
                    "enclosed": f"{enclosed} of {len(weights)}",
                }
            )
    report("gains", f"Q[{options.rank}], randomised against exact", rows)


if __name__ == "__main__":
    main()
