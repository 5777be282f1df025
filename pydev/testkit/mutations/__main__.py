# SPDX-License-Identifier: MIT
"""Prints what the verdict makes of each mutation of a clean run: `python -m pydev.testkit.mutations [RUN]`."""

import argparse
import sys
import tempfile
from pathlib import Path

from pydev.continuity import load_policy, load_timeline
from pydev.testkit.mutations.judging import judged, policy_of, table
from pydev.testkit.mutations.library import SEED, mutations
from pydev.testkit.mutations.mutation import Clean
from pydev.testkit.story import Story


def main(words: list[str]) -> int:
    """Judge and print; 1 where a mutation passed that nothing excuses, 2 where the recording is not clean."""
    parser = argparse.ArgumentParser(prog="python -m pydev.testkit.mutations", description=__doc__)
    parser.add_argument(
        "run",
        nargs="?",
        type=Path,
        help="a run's directory, or its recording (default: the synthetic update)",
    )
    parser.add_argument("--policy", default="series")
    parser.add_argument(
        "--most", type=int, metavar="N", help="take N of each row, function and phase (default: all)"
    )
    parser.add_argument("--seed", type=int, default=SEED)
    options = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as folder:
        path = options.run / "recording.lus" if options.run and options.run.is_dir() else options.run
        clean = Clean.of(load_timeline(path or Story().save(Path(folder) / "story.lus")))
        policy = policy_of(clean, load_policy(options.policy))
        found = list(judged(clean, mutations(clean, options.most, options.seed), policy))
    print(table(found))
    wrong = [one for one in found if one.is_wrong]
    for one in wrong:
        print(f"WRONG PASS: {one.mutation.describe()}")
    print(f"{len(found)} mutations, {len(wrong)} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
