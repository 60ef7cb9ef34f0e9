#!/usr/bin/env bash
# Set-up of the environment in .venv, from a bare checkout. Does nothing when the lock file has not changed since.
#
#   PYTHON           the interpreter to build on (default: python3.11, else python3)
#   TORCH_INDEX_URL  a package index that has the torch build you want, for example PyTorch's own for CPU or CUDA
set -euo pipefail
cd "$(dirname "$0")/.."

export UV_SYSTEM_CERTS="${UV_SYSTEM_CERTS:-true}"  # a company's own certificate authority is trusted as pip trusts it
VENV=.venv
UV_VERSION=0.13.9
TORCH_VERSION=2.13.0
started=$SECONDS

say() { printf '\033[1m==>\033[0m %s\n' "$*"; }
fail() { printf 'set-up: %s\n' "$*" >&2; exit 2; }

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3.11 python3}; do
        if "$candidate" -c 'import sys; raise SystemExit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    fail "needs Python 3.11, and found none as ${PYTHON:-python3.11 or python3}; install it (Debian 12: apt-get install python3.11-venv), or name it: make run PYTHON=/path/to/python3.11"
}

make_environment() {
    if ! "$VENV/bin/python" -c 'import sys; raise SystemExit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
        local python
        python=$(find_python)
        say "Making an environment in $VENV with $("$python" --version)"
        "$python" -c 'import ensurepip, venv' 2>/dev/null \
            || fail "$python lacks the modules venv and ensurepip (Debian 12: apt-get install python3.11-venv)"
        "$python" -m venv --clear "$VENV"
    fi
    if [ "$("$VENV/bin/uv" --version 2>/dev/null | cut -d' ' -f2)" != "$UV_VERSION" ]; then
        say "Installing uv $UV_VERSION"
        "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check "uv==$UV_VERSION"
    fi
}

install_packages() {
    say "Installing $(grep -c == requirements.lock) packages at the versions of requirements.lock"
    "$VENV/bin/uv" pip install --quiet --python "$VENV/bin/python" --compile-bytecode --no-deps -r requirements.lock
}

install_torch() {
    if "$VENV/bin/python" -c "import importlib.metadata as m; raise SystemExit(m.version('torch').split('+')[0] != '$TORCH_VERSION')" 2>/dev/null; then
        return
    fi
    say "Installing torch $TORCH_VERSION${TORCH_INDEX_URL:+ from $TORCH_INDEX_URL}, the largest part"
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile \
        ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} "torch==$TORCH_VERSION"
    # A few of torch's own files are written for a later Python and do not compile.
    "$VENV/bin/python" -m compileall -qq -j 0 "$VENV"/lib/python3.11/site-packages/torch >/dev/null 2>&1 || true
}

install_pointsman() {
    say "Installing pointsman itself, in place"
    "$VENV/bin/uv" pip install --quiet --python "$VENV/bin/python" --no-deps --editable .
}

stamp="$VENV/.pointsman-$(cat requirements.lock pyproject.toml infra/setup.sh | sha256sum | cut -c1-16)"
if [ -e "$stamp" ] && [ -x "$VENV/bin/pointsman" ]; then
    exit 0
fi
make_environment
rm -f "$VENV"/.pointsman-*
install_packages
install_torch
install_pointsman
touch "$stamp"
say "The environment is ready ($((SECONDS - started)) s)"
