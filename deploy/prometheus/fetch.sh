#!/usr/bin/env bash
# Unpacks Debian's package of Prometheus, with promtool, into a folder. Needs apt, and no root.
set -euo pipefail
folder=$(realpath -m "$1")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
if ! apt-get download prometheus >log 2>&1; then
    # The machine has no package lists: they are fetched for this download alone.
    mkdir -p lists/partial cache/archives/partial
    options=(-o Dir::State::lists="$work/lists" -o Dir::Cache="$work/cache"
             -o APT::Sandbox::User="$(id -un)")
    apt-get "${options[@]}" update >log 2>&1
    apt-get "${options[@]}" download prometheus >log 2>&1
fi
dpkg-deb -x prometheus_*.deb "$folder"
