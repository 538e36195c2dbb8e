"""The study as a program. STUDY_LOG: where trainings are noted; STUDY_BROKEN: an arm that fails;
STUDY_HANGS: one that is never done."""

import dataclasses
import os
import sys
import time
from pathlib import Path

from experiments.common.command_line import main
from gdpo_jax.errors import UserError
from gdpo_jax.training.lock import only_run_in
from tests.experiments.common.runs.study import Noted, study


@dataclasses.dataclass(frozen=True)
class Broken(Noted):
    def train(self, job):
        raise UserError("a reward that nobody knows")


@dataclasses.dataclass(frozen=True)
class Hanging(Noted):
    def train(self, job):
        with only_run_in(job.folder):
            super().train(job)
            while True:
                time.sleep(0.1)


LOG = Path(os.environ["STUDY_LOG"])
KINDS = {"STUDY_BROKEN": Broken, "STUDY_HANGS": Hanging}
CHANGED = {os.environ[name]: kind(LOG) for name, kind in KINDS.items() if name in os.environ}
PLAIN = study(LOG)
EXPERIMENT = dataclasses.replace(
    PLAIN,
    arms=tuple(
        dataclasses.replace(arm, stage=CHANGED.get(arm.name, arm.stage)) for arm in PLAIN.arms
    ),
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
