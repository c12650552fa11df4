"""A run of a study in several processes: `LAUNCH -m loram.study.launched FOLDER`.

`accelerate launch` and `torchrun` start this module once a process; all of them call the same
`loram.train.run`, whose first process leaves the results in the folder.
"""

import contextlib
import fcntl
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from loram.study.job import Job

__all__ = ["launch", "main", "problem", "processes"]

_ASKED = "LORAM_LAUNCHED"  # the variable that tells the processes what to run
_EXPECTED = "expected `launch` to be a launcher, such as `accelerate launch --num_processes 4`"
_SHOWN = 6000  # characters of what they said, in an error


class LaunchError(RuntimeError):
    """The launcher could not be started, or ended without results."""


def launch(command: str, job: Job, folder: Path) -> None:
    """Have a launcher do the job; afterwards its folder says how it ended.

    Args:
        command: the launcher with its options, such as `accelerate launch --num_processes 4`.
        job: the run.
        folder: of the run.

    Raises:
        LaunchError: there is neither a result nor a divergence.
    """
    from loram.train.folder import has_ended

    words = [*shlex.split(command), "-m", "loram.study.launched", str(folder)]
    folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryFile() as log,
        tempfile.NamedTemporaryFile(dir=folder, prefix=".launched-", suffix=".part") as alive,
    ):
        fcntl.flock(alive, fcntl.LOCK_EX)
        asked = {
            "settings": dict(job.settings),
            "threads": job.threads,
            "alive": alive.name,
            "host": socket.gethostname(),
        }
        environment = {
            **os.environ,
            "PATH": _path(),
            "OMP_NUM_THREADS": str(job.threads),
            _ASKED: json.dumps(asked),
        }
        try:
            done = subprocess.run(
                words, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        except OSError as error:
            raise LaunchError(f"can't start {words[0]} ({error}): {_EXPECTED}") from error
        if has_ended(folder):
            return
        log.seek(0)
        said = log.read().decode(errors="replace")[-_SHOWN:]
    raise LaunchError(f"{command} ended with code {done.returncode} and no results:\n{said}")


def problem(command: str) -> str | None:
    """What is wrong with a launcher before it is started, if anything."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        return f"{error} in {command!r}: {_EXPECTED}"
    if not words or shutil.which(words[0], path=_path()) is None:
        return f"there is no command {' '.join(words[:1])!r} here: {_EXPECTED}"
    return None


def _path() -> str:
    """Where commands are looked for: beside this Python first, whose environment need not be on."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])


def processes(command: str) -> int | None:
    """How many processes a launcher's options ask for; None if they leave it to something else."""
    found = re.search(r"--(?:num[-_]processes|nproc[-_]per[-_]node)[= ](\d+)", command)
    return int(found[1]) if found else None


def main() -> None:
    """One of the processes."""
    from loram.study.execute import prepare_process
    from loram.train.run import run
    from loram.train.settings import TrainSettings

    folder = Path(sys.argv[1])
    asked = json.loads(os.environ[_ASKED])
    if asked["host"] == socket.gethostname():
        threading.Thread(target=_die_with, args=(asked["alive"],), daemon=True).start()
    prepare_process(asked["threads"])
    run(TrainSettings.model_validate(asked["settings"]), folder, before=False)


def _die_with(alive: str) -> None:
    """A worker that was killed has lost its lock: nobody else may write in its folder."""
    with contextlib.suppress(FileNotFoundError), open(alive, "rb") as file:
        # The kernel takes the lock from the dead, zombies included.
        fcntl.flock(file, fcntl.LOCK_SH)
    os._exit(1)


if __name__ == "__main__":
    main()
