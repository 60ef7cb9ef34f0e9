#!/usr/bin/env bash
# Build an image of the stages' environment, and say what to write into params.yaml: infra/images/build.sh cpu|gpu
#
#   ENGINE           podman or docker (default: the first that is there)
#   BASE             another base image, pinned by digest; `debootstrap` makes Debian 12 here, without a registry
#   TORCH_INDEX_URL, PIP_FIND_LINKS, PIP_CERT, HTTP_PROXY, HTTPS_PROXY, NO_PROXY   as for `make setup`
set -euo pipefail
cd "$(dirname "$0")/../.."

family=${1:-cpu}
name=localhost/pointsman-$family
fail() { printf 'images: %s\n' "$*" >&2; exit 2; }

[ -f "infra/images/Containerfile.$family" ] || fail "there is no image $family; there are: cpu, gpu"
engine=${ENGINE:-$(command -v podman || command -v docker || true)}
[ -n "$engine" ] || fail "needs Podman or Docker (Debian 12: apt-get install podman runc)"

options=()
bootstrap() {
    local folder
    [ "$(id -u)" = 0 ] || fail "BASE=debootstrap needs root, and: apt-get install debootstrap"
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' RETURN
    debootstrap --variant=minbase bookworm "$folder" >&2
    tar -C "$folder" --numeric-owner -cf - . | "$engine" import - localhost/pointsman-base:bookworm >&2
}
if [ "${BASE:-}" = debootstrap ]; then
    "$engine" image inspect localhost/pointsman-base:bookworm >/dev/null 2>&1 || bootstrap
    BASE=$("$engine" image inspect --format '{{.Id}}' localhost/pointsman-base:bookworm)
    BASE=${BASE#sha256:}
    case $engine in *podman) options+=(--pull=never) ;; esac
fi
[ -z "${BASE:-}" ] || options+=(--build-arg "BASE=$BASE")
for variable in TORCH_INDEX_URL HTTP_PROXY HTTPS_PROXY NO_PROXY; do  # the latter are known to every engine
    [ -z "${!variable:-}" ] || options+=(--build-arg "$variable=${!variable}")
done
case $engine in
*podman)  # Docker cannot mount while it builds: there, packages come from an index.
    if [ -d "${PIP_FIND_LINKS:-}" ]; then
        options+=(-v "$PIP_FIND_LINKS:/run/wheels:ro" --build-arg PIP_FIND_LINKS=/run/wheels)
    fi
    if [ -f "${PIP_CERT:-}" ]; then
        options+=(-v "$PIP_CERT:/run/ca.crt:ro" --build-arg PIP_CERT=/run/ca.crt --build-arg SSL_CERT_FILE=/run/ca.crt)
    fi ;;
esac

"$engine" build "${options[@]}" -f "infra/images/Containerfile.$family" -t "$name" . >&2
id=$("$engine" image inspect --format '{{.Id}}' "$name")
echo "stage.images.$family: sha256:${id#sha256:}"
