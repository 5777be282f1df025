# SPDX-License-Identifier: MIT
"""Prints what the verdict makes of every mutation of a clean run, and of every damage to its file."""

import argparse
import sys
import tempfile
from itertools import chain
from pathlib import Path

from pydev.continuity import Policy, load_policy, load_timeline
from pydev.errors import PydevError
from pydev.testkit.mutations import damage, judging
from pydev.testkit.mutations.library import SEED, mutations
from pydev.testkit.mutations.mutation import Clean
from pydev.testkit.story import Story


def main(words: list[str]) -> int:
    """Judge and print; 1 where something passed that nothing excuses, 2 where the recording is not clean."""
    parser = argparse.ArgumentParser(prog="python -m pydev.testkit.mutations", description=__doc__)
    parser.add_argument("run", nargs="?", type=Path, help="a run's directory (default: the synthetic update)")
    parser.add_argument(
        "--policy", default="series", help="what the run has to be clean by (default: series)"
    )
    parser.add_argument(
        "--most", type=int, metavar="N", help="N of each row, function and phase, at random (default: all)"
    )
    parser.add_argument("--seed", type=int, default=SEED)
    options = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = options.run or Story().save(folder / "story.lus")
        path = path / "recording.lus" if path.is_dir() else path
        try:
            clean = Clean.of(load_timeline(path))
            policy = judging.policy_of(clean, load_policy(options.policy))
        except PydevError as error:
            print(f"{path}: {error}", file=sys.stderr)
            return 2
        wrong = _mutated(clean, policy, options.most, options.seed)
        wrong += _damaged(path.read_bytes(), policy, options.most or 1000, options.seed, folder)
    return 1 if wrong else 0


def _mutated(clean: Clean, policy: Policy, most: int | None, seed: int) -> int:
    found = list(judging.judged(clean, mutations(clean, most, seed), policy))
    print("One event changed, the file made consistent again\n")
    print(judging.table(found))
    wrong = [one for one in found if one.is_wrong]
    for one in wrong:
        print(f"WRONG PASS: {one.mutation.describe()}")
    print(f"{len(found)} mutations, {len(wrong)} wrong\n")
    return len(wrong)


def _damaged(data: bytes, policy: Policy, most: int, seed: int, folder: Path) -> int:
    damages = chain(damage.flips(data, most, seed), damage.cuts(data, most, seed))
    found = list(damage.assessed(damages, policy, folder))
    print("One bit flipped, or the file cut short\n")
    print(damage.table(found))
    wrong = [one for one in found if one.is_wrong]
    for one in wrong:
        print(f"WRONG PASS: {one.damage.region}, {one.damage.what}")
    print(f"{len(found)} damaged files, {len(wrong)} wrong")
    return len(wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
