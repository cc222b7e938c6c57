"""Puts the `stagedoor` command into the environment that runs this module.

The packages stay where the checkout is: a `.pth` file points there, so there is nothing to build
and nothing to fetch.
"""

from __future__ import annotations

import shlex
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COMMAND = """\
#!/bin/sh
'''exec' {python} "$0" "$@"
' '''
try:
    from deploy.compiled import use
    use()
    from deploy.cli import main
except KeyboardInterrupt:
    raise SystemExit(130) from None

main()
"""


def install(python: Path, packages: Path, scripts: Path) -> Path:
    """Writes the path file and the command; returns the command.

    A shell starts Python: the path in a first line may neither be long nor contain a space.
    """
    (packages / "stagedoor.pth").write_text(f"{ROOT}\n", encoding="utf-8")
    command = scripts / "stagedoor"
    command.write_text(COMMAND.format(python=shlex.quote(str(python))), encoding="utf-8")
    command.chmod(0o755)
    return command


if __name__ == "__main__":
    paths = sysconfig.get_paths()
    install(Path(sys.executable), Path(paths["purelib"]), Path(paths["scripts"]))
