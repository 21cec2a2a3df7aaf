#!/bin/sh
# Runs inside the build of engine-gpu: adds what the lock $1 names to the published image's own Python.
set -eu

if [ -f /run/secrets/index ]; then
    set -a
    . /run/secrets/index
    set +a
fi
if [ -f /run/secrets/certificates ]; then
    export PIP_CERT=/run/secrets/certificates SSL_CERT_FILE=/run/secrets/certificates
fi

python3 -m pip install --no-cache-dir --no-deps --require-hashes --break-system-packages -r "$1"
