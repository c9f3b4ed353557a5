#!/usr/bin/env bash
# Checks Prometheus' configuration, and tests the alert rules, with promtool: the one on PATH, or
# that of the folder named, which `fetch.sh` fills.
set -euo pipefail
promtool=$(command -v promtool || realpath -m "$1/usr/bin/promtool")
cd "$(dirname "$0")"
if [ ! -x "$promtool" ]; then
    echo "The alert rules are not checked: there is no promtool, and Debian's package of prometheus" \
         "could not be fetched. Install promtool to check them here." >&2
    exit 0
fi
quietly() {
    said=$("$promtool" "$@" 2>&1) || { echo "$said" >&2; exit 1; }
}
quietly check config prometheus.yml
quietly check rules alerts.yml
quietly test rules alerts_test.yml
