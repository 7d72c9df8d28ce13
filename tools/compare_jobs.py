"""Does a change leave the weights of a job as they were? Trains the same small job at two revisions and compares bit for bit.

    python tools/compare_jobs.py REVISION

Fine-tunes the embedded network on the embedded drawings at 64 pixels (its head alone; the last stage and the whole network for
two epochs), in the working tree and in a checkout of REVISION, each in a process of its own with an empty cache. Prints
accuracies and the largest difference of a weight; exit status 1 unless all are equal.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROGRAM = """
import json, sys
from pipelines import fine_tune
from pipelines.sample import DIRECTORY
for train, epochs in (("head", None), ("last", 2), ("all", 2)):
    result = fine_tune(DIRECTORY, f"{sys.argv[1]}/{train}", size=64, train=train, epochs=epochs, progress=False)
    print(json.dumps({"train": train, "accuracy": result.accuracy, "model": str(result.run / "model.keras")}))
"""


def jobs(checkout: Path, out: Path) -> list[dict]:
    """What each job gave in that checkout."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(checkout),
        "KERAS_CNN_CACHE": str(out / "cache"),
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    command = [sys.executable, "-c", PROGRAM, str(out)]
    done = subprocess.run(command, cwd=checkout, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def weights(file: str):
    import keras

    return [keras.ops.convert_to_numpy(weight) for weight in keras.models.load_model(file, compile=False).weights]


def main():
    (revision,) = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        before, folder = Path(folder) / "before", Path(folder)
        subprocess.run(["git", "worktree", "add", "--quiet", "--detach", str(before), revision], cwd=ROOT, check=True)
        try:
            pairs = list(zip(jobs(before, folder / "old"), jobs(ROOT, folder / "new"), strict=True))
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(before)], cwd=ROOT, check=True)
        equal = True
        for old, new in pairs:
            difference = max(
                float(abs(a - b).max()) for a, b in zip(weights(old["model"]), weights(new["model"]), strict=True)
            )
            equal &= difference == 0 and old["accuracy"] == new["accuracy"]
            print(
                f"{old['train']}: accuracy {old['accuracy']:.4f} and {new['accuracy']:.4f}, largest difference {difference:g}"
            )
    sys.exit(not equal)


if __name__ == "__main__":
    main()
