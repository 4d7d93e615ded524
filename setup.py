"""Build anytick's extensions; everything else about the project stands in pyproject.toml.

``EXT_DEBUG=1`` turns on assertions, bounds checks and annotated sources.
``EXT_SANITIZE=address,undefined`` adds sanitizers. ``ANYTICK_NATIVE=1`` builds for this machine only.
"""

import os
import platform
from pathlib import Path

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup

DEBUG = os.environ.get("EXT_DEBUG") == "1"
SANITIZE = os.environ.get("EXT_SANITIZE", "")
NATIVE = os.environ.get("ANYTICK_NATIVE") == "1"

# No flag here may change a floating-point result between machines: contraction is off, and there is
# no -ffast-math.
compile_args = ["-std=c11", "-Wno-unused-function", "-ffp-contract=off"]
# Until glibc 2.34 shm_open, dlopen and threads live in libraries of their own; later ones keep empty ones.
link_args = ["-lrt", "-ldl", "-lpthread"] if platform.system() == "Linux" else []
if NATIVE:
    compile_args.append("-march=native")
elif platform.machine() in ("x86_64", "AMD64"):
    compile_args.append("-march=x86-64-v2")
compile_args += ["-O0", "-g", "-UNDEBUG"] if DEBUG else ["-O3"]
if SANITIZE:
    compile_args += [f"-fsanitize={SANITIZE}", "-g", "-fno-omit-frame-pointer"]
    link_args.append(f"-fsanitize={SANITIZE}")

macros = [("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION")]
if DEBUG:
    macros.append(("ANYTICK_DEBUG", "1"))

modules = sorted(path.stem for path in Path("ext").glob("*.pyx"))
headers = sorted(str(path) for path in Path("ext").glob("*.h"))

setup(
    ext_modules=cythonize(
        [
            Extension(
                f"ext.{module}",
                [f"ext/{module}.pyx"],
                include_dirs=["ext", numpy.get_include()],
                depends=headers,
                define_macros=macros,
                extra_compile_args=compile_args,
                extra_link_args=link_args,
            )
            for module in modules
        ],
        compiler_directives={
            "language_level": 3,
            "boundscheck": DEBUG,
            "initializedcheck": DEBUG,
            "wraparound": False,
            "cdivision": True,
            "embedsignature": True,
        },
        annotate=DEBUG,
        # Directives are no part of Cython's time stamps, so each kind of build has its own folder.
        build_dir=f"build/cython-{'debug' if DEBUG else 'release'}",
    ),
    # Compiler flags are no part of setuptools' time stamps: without force, a release build after a debug
    # build keeps the debug binaries.
    options={"build_ext": {"force": True, "parallel": os.cpu_count()}},
)
