#!/usr/bin/env bash
# A run on a slice of Cloud TPU VMs: asks for the slice, installs on every host, starts the same command on all of them.
# Needs gcloud with a project that has quota, a bucket in the zone's region, and this repository's address.
set -euo pipefail

NAME="${NAME:-cvjax}"
ZONE="${ZONE:-us-west4-a}"
TYPE="${TYPE:-v5litepod-16}" # 16 chips on 4 hosts
IMAGE="${IMAGE:-v2-alpha-tpuv5-lite}"
BUCKET="${BUCKET:?set BUCKET to the name of a bucket}"
REPOSITORY="${REPOSITORY:?set REPOSITORY to the address that git clones}"

everywhere() {
    gcloud compute tpus tpu-vm ssh "$NAME" --zone "$ZONE" --worker all --command "$1"
}

if ! gcloud compute tpus tpu-vm describe "$NAME" --zone "$ZONE" > /dev/null 2>&1; then
    gcloud compute tpus queued-resources create "$NAME" --node-id "$NAME" --zone "$ZONE" \
        --accelerator-type "$TYPE" --runtime-version "$IMAGE" --spot
    until [ "$(gcloud compute tpus tpu-vm describe "$NAME" --zone "$ZONE" --format 'value(state)' 2> /dev/null)" = READY ]; do
        sleep 30
    done
    everywhere "git clone $REPOSITORY cvjax && cd cvjax && python3 -m venv .venv && .venv/bin/pip install -e '.[tpu,gcs]'"
fi

everywhere "cd cvjax && source .venv/bin/activate && bash docs/launch/restart.sh \
    python -m experiments.deeplab_voc voc_pod --workdir gs://$BUCKET/runs/voc --data-dir gs://$BUCKET/data --resume"
