"""The oracle environment: made once beside the checkout's own, from a hashed lock file."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

LOCK = Path(__file__).parent / "requirements.lock"
ENVIRONMENT = Path(__file__).parents[2] / ".venv-oracles"


def oracle_python() -> str | None:
    """The interpreter of the environment, made if it is not there; None if it cannot be made."""
    python, stamp = ENVIRONMENT / "bin" / "python", ENVIRONMENT / ".made-from"
    wanted = f"{hashlib.sha256(LOCK.read_bytes()).hexdigest()} {sys.version_info[:2]}"
    if stamp.is_file() and stamp.read_text() == wanted:
        return str(python)
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    if uv is None:
        return None
    commands = [
        [uv, "venv", "-q", "--clear", "--python", sys.executable, str(ENVIRONMENT)],
        # No dependencies: irrCAC pins an old scipy, crowd-kit drags in transformers; the lock names what is needed.
        [uv, "pip", "install", "-q", "--python", str(python), "--no-deps", "--require-hashes", "-r", str(LOCK)],
    ]
    for command in commands:
        if subprocess.run(command, check=False, capture_output=True).returncode:
            return None
    stamp.write_text(wanted)
    return str(python)
