#!/bin/sh
# Secrets come as files, and only into the processes that need them; then the start-up check; then what was asked for.
set -eu
for name in EMAPS_API_TOKEN DAGSTER_POSTGRES_PASSWORD; do
    file="${SECRETS:-/run/secrets}/$(printf %s "$name" | tr '[:upper:]' '[:lower:]')"
    if [ -s "$file" ]; then
        export "$name=$(cat "$file")"
    fi
done
role=$1
shift
case $role in
code)
    python -m emaps_dagster.cli.preflight --wait 120
    python -m emaps_dagster.cli.orphaned_runs
    ;;
dagster) python -m emaps_dagster.cli.preflight --dagster-only --wait 120 ;;
healthy) ;; # of a healthcheck, which gets no secrets by itself
*)
    echo "entrypoint.sh: the first word is code, dagster or healthy, not $role" >&2
    exit 2
    ;;
esac
exec "$@"
