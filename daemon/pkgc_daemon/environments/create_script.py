"""The script that a base interpreter runs to build an environment; it is not imported by pkgc at run time.

It is handed to any CPython or PyPy from 3.8 on.  The environment is built by that Python's own `venv`, in a
staging directory, but for its final place: only the activation scripts and pyvenv.cfg name that.
"""

from __future__ import annotations

import os
import sys
import types
import venv


class Builder(venv.EnvBuilder):
    """`venv`, told where the environment will be in the end."""

    final = ""

    def setup_scripts(self, context: types.SimpleNamespace) -> None:
        """Write the activation scripts, for the final place."""
        staging, name = context.env_dir, os.path.basename(self.final)
        context.env_dir = self.final
        context.env_exe = context.env_exe.replace(staging, self.final, 1)
        # whether the prompt has parentheses depends on the version
        context.prompt = context.prompt.replace(context.env_name, name)
        context.env_name = name
        super().setup_scripts(context)


def main() -> None:
    """Build in argv[1] for argv[2]; pkgc's version, argv[3], is noted in pyvenv.cfg."""
    staging, final, version = sys.argv[1:4]
    builder = Builder(symlinks=True, with_pip=False)
    builder.final = final
    builder.create(staging)
    path = os.path.join(staging, "pyvenv.cfg")
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        lines = [line.replace(staging, final) for line in file]
    with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.writelines(lines)
        file.write("pkgc = " + version + "\n")
    with open(os.path.join(staging, ".gitignore"), "w", encoding="ascii") as file:
        file.write("*\n")


if __name__ == "__main__":
    main()
