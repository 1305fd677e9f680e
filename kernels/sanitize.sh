#!/usr/bin/env bash
# Builds the kernels with AddressSanitizer and UndefinedBehaviorSanitizer, a quarter of an hour on one
# core, and runs tests/check.cpp, which takes up every level of this machine. Then, two minutes more,
# the kernels' Python tests in the Python that is active, on the portable level alone: what Python hands
# over is the same at every level. With the argument `python` only those.
set -euo pipefail
cd "$(dirname "$0")/.."

build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT
export OMP_WAIT_POLICY=passive  # or threads spin on cores that others want, many times slower

if [ "${1:-}" != python ]; then
    cmake -S kernels -B "$build/all" -DWORKBENCH_SANITIZE=address,undefined >"$build/configure.log"
    cmake --build "$build/all" --target check --parallel
    "$build/all/check"
fi

cmake -S kernels -B "$build/portable" -DWORKBENCH_SANITIZE=address,undefined \
    -DWORKBENCH_PORTABLE=ON >"$build/configure.log"
cmake --build "$build/portable" --target workbench_kernels
# Python is not built for it: the runtimes come first, and what it leaves behind is its own affair.
runtimes="$(c++ -print-file-name=libasan.so) $(c++ -print-file-name=libubsan.so)"
export ASAN_OPTIONS=detect_leaks=0 LD_PRELOAD=$runtimes
export WORKBENCH_KERNELS_LIBRARY=$build/portable/libworkbench_kernels.so
python -c "from workbench.ops import native; native.library()"  # or all tests would be skipped
python -m pytest -q -p no:cacheprovider -n 0 tests/ops
