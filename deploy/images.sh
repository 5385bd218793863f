#!/usr/bin/env bash
# Builds the images of deploy/Dockerfile and prints what each adds to its base. `make images`
#
# BASE names another base, and RUNTIME=gpu builds for NVIDIA GPUs. Where the base cannot be pulled, BASE=debian makes one
# of Debian's packages, in ten minutes, by debootstrap, as root; then the images that take the places of PostgreSQL and
# the bucket in `make story` are built too. TORCH_FOR_CPU is a page or folder with torch's wheels for CPUs.
set -euo pipefail
cd "$(dirname "$0")/.."

version=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
docker=${DOCKER:-docker}  # of a client with BuildKit
runtime=${RUNTIME:-cpu}
base=${BASE:-$(sed -n 's/^ARG BASE=//p' deploy/Dockerfile)}
arguments=(--network=host --build-arg RUNTIME="$runtime")
export DOCKER_BUILDKIT=1

# A base with Python and this machine's certificates, which its proxy may need.
make_base() {
  base=volvae-base:debian
  "$docker" image inspect "$base" >/dev/null 2>&1 && return
  local root
  root=$(mktemp -d)
  trap 'rm -rf "$root"' RETURN
  debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates bookworm "$root"
  ln -s python3 "$root/usr/bin/python"
  cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
  tar --directory "$root" --create --exclude ./var/cache/apt --exclude ./var/lib/apt/lists . \
    | "$docker" import --change 'ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt' - "$base"
}

[ "$base" != debian ] || make_base
arguments+=(--build-arg BASE="$base")

# A folder of wheels is served to the builder, which sees no other folder of this machine.
if [ -d "${TORCH_FOR_CPU:-}" ]; then
  python3 -m http.server --bind 127.0.0.1 --directory "$TORCH_FOR_CPU" 8099 >/dev/null 2>&1 &
  trap 'kill %1' EXIT
  TORCH_FOR_CPU=http://127.0.0.1:8099/
fi
[ -z "${TORCH_FOR_CPU:-}" ] || arguments+=(--build-arg TORCH_FOR_CPU="$TORCH_FOR_CPU")

suffix=$([ "$runtime" = cpu ] || echo "-$runtime")
for target in services pipeline server; do
  "$docker" build "${arguments[@]}" --file deploy/Dockerfile --target "$target" --tag "volvae-$target:$version$suffix" .
done

if [ "$base" = volvae-base:debian ]; then
  for target in postgres s3; do
    "$docker" build --network=host --build-arg BASE="$base" --target "$target" --tag "volvae-stand-in-$target:test" \
      tests/deploy/stand_ins
  done
fi

size() { "$docker" image inspect --format '{{.Size}}' "$1"; }
for target in services pipeline server; do
  echo "volvae-$target: $((($(size "volvae-$target:$version$suffix") - $(size "$base")) / 1000000)) MB above $base"
done
