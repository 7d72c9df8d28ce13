"""What do the presets of `fine_tune` give, and in what time?

    python benchmarks/recipes.py --table DATA.csv --label LABEL --split SPLIT [--presets fast default best] [--seeds 0]
        [--size PIXELS] [--time-limit SECONDS] [--json]

Without `--table`, the embedded drawings. Each job begins with an empty cache. A row shows validation and test accuracy, the
seconds of the whole job, those that its plan expected after the images were read, and those that it then took. With
`--time-limit` each job has that limit too, with the preset as the most thorough one.
"""

import tempfile
import time
from unittest import mock

import harness
import stability

SHOWN = ("preset", "seed", "trained", "validation", "test", "low", "high", "planned", "taken", "seconds")


def run_job(data, out, preset, seed, options):
    """One row."""
    from pipelines import fine_tune, fine_tuning

    plans, make_plan = [], fine_tuning.make_plan

    def noted(*arguments):
        plans.append((make_plan(*arguments), time.perf_counter()))
        return plans[-1][0]

    with mock.patch.object(fine_tuning, "make_plan", noted):
        limit = {} if options.time_limit is None else {"time_limit": options.time_limit}
        result, seconds = harness.timed(fine_tune, data, out, preset=preset, seed=seed, size=options.size, **limit)
    end, metrics, ((plan, planned_at),) = time.perf_counter(), result.metrics, plans
    low, high = result.interval
    return {
        "preset": preset,
        "seed": seed,
        "trained": f"{plan.settings.train}, {plan.settings.epochs} epochs",
        "validation": metrics["validation"][metrics["selected"]]["accuracy"],
        "test": result.accuracy,
        "low": low,
        "high": high,
        "planned": plan.total,
        "taken": end - planned_at,
        "seconds": seconds.elapsed,
        "phases": metrics["seconds"],
        "expected": plan.seconds,
        "decisions": metrics["decisions"],
    }


def main():
    parser = harness.parser(__doc__)
    parser.add_argument("--table", metavar="DATA.csv", help="photos (default: the embedded drawings)")
    parser.add_argument("--label", help="the table's column of labels")
    parser.add_argument("--split", help="the table's column of splits")
    parser.add_argument("--presets", nargs="+", default=["fast", "default", "best"], help="(default: all)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="(default: 0)")
    parser.add_argument("--size", type=int, metavar="PIXELS", help="height and width (default: as pretrained)")
    parser.add_argument("--time-limit", type=float, metavar="SECONDS", help="of each job (default: none)")
    options = parser.parse_args()
    rows = []
    for preset in options.presets:
        for seed in options.seeds:
            with (
                tempfile.TemporaryDirectory() as folder,
                mock.patch.dict("os.environ", KERAS_CNN_CACHE=f"{folder}/cache"),
            ):
                data = stability.load_set("table" if options.table else "sample", None, options)
                rows += harness.echo([run_job(data, f"{folder}/out", preset, seed, options)])
    harness.show(rows, options.json, SHOWN)


if __name__ == "__main__":
    main()
