"""Compile what has to be fast with mypyc when a wheel is built; pyproject.toml has all the rest.

`DISPATCHD_PURE=1` leaves the compiling out, and so does a machine that cannot compile C: the same source then runs
interpreted. An editable install is never compiled, because an old compiled module would shadow its changed source.
"""

import os
import sys
import sysconfig
import tempfile
from pathlib import Path

from setuptools import Extension, setup
from setuptools.errors import CompileError, PlatformError

COMPILED = (
    "dispatchd/amqp",
    "dispatchd/model",
    "dispatchd/perf/counting",
    "dispatchd/actors/ages.py",
    "dispatchd/actors/clock.py",
    "dispatchd/actors/committer.py",
    "dispatchd/actors/duty.py",
    "dispatchd/actors/held_credit.py",
    "dispatchd/actors/mailbox.py",
    "dispatchd/actors/native_thread.py",
    "dispatchd/actors/pager.py",
    "dispatchd/actors/pressure.py",
    "dispatchd/actors/publisher.py",
    "dispatchd/actors/subscriber.py",
    "dispatchd/actors/turns.py",
    "dispatchd/actors/windows.py",
    "dispatchd/net/credit.py",
    "dispatchd/net/socket_transport.py",
    "dispatchd/net/tls_transport.py",
    "dispatchd/store/batches.py",
    "dispatchd/store/pending.py",
    "dispatchd/store/redo.py",
    "dispatchd/store/redo_log.py",
)
"""Packages and modules: what each message comes through. Not the actors themselves, so that one can see into them."""

LENIENT = ("--follow-imports=silent", "--ignore-missing-imports", "--no-warn-unused-ignores", "--no-warn-return-any")
"""A build has neither the libraries nor their stubs: what has no types there is an object. `make check` is strict."""


def compiler_problem(folder: str) -> str | None:
    """Say why an extension module cannot be compiled here (no C compiler, no Python headers), or None if it can."""
    from distutils.ccompiler import new_compiler
    from distutils.sysconfig import customize_compiler

    probe = Path(folder, "probe.c")
    probe.write_text("#include <Python.h>\n")
    try:
        compiler = new_compiler()
        customize_compiler(compiler)
        compiler.compile([str(probe)], output_dir=folder, include_dirs=[sysconfig.get_path("include")])
    except (CompileError, PlatformError) as error:
        return str(error)
    return None


def extensions(folder: str) -> list[Extension]:
    """Return what to compile, as one extension with its generated C in `folder`; nothing for a pure build."""
    if "bdist_wheel" not in sys.argv:
        return []
    if os.environ.get("DISPATCHD_PURE", "0") not in ("", "0"):
        print("dispatchd setup: building without compiled modules, as DISPATCHD_PURE asks", file=sys.stderr)
        return []
    if problem := compiler_problem(folder):
        print(f"dispatchd setup: building without compiled modules: cannot compile C: {problem}", file=sys.stderr)
        print("dispatchd setup: it works the same but slower; gcc and Python's headers are missing", file=sys.stderr)
        return []

    from mypyc.build import mypycify

    paths = [path for each in COMPILED for path in ([Path(each)] if each.endswith(".py") else Path(each).rglob("*.py"))]
    modules = sorted(map(str, paths))
    built: list[Extension] = mypycify(
        [
            "--config-file=pyproject.toml",
            *LENIENT,
            f"--cache-dir={folder}",
            *(module for module in modules if not module.endswith("__init__.py")),
        ],
        group_name="dispatchd",
        opt_level="3",
        debug_level="0",
        target_dir=folder,
    )
    for extension in built:
        # mypyc turns the C compiler's warnings into errors, and a newer compiler has new warnings. What it makes are
        # functions of a library that others may replace: none would be called directly, or put in its caller's place.
        extension.extra_compile_args += ["-Wno-error", "-fvisibility=hidden", "-fno-plt"]
    return built


# A build folder of its own: nothing compiled stays in the checkout, nothing deleted comes back out of an old build.
with tempfile.TemporaryDirectory(prefix="dispatchd-build-") as build_folder:
    setup(
        ext_modules=extensions(build_folder),
        options={"build": {"build_base": build_folder}, "egg_info": {"egg_base": build_folder}},
    )
