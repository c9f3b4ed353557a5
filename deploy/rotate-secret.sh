#!/bin/sh
# Replaces a secret while the system runs: what is under way goes on, and what is queued waits.
#
#   sh deploy/rotate-secret.sh redis_password | mongo_password | flower_password | model_signing_key
#   sh deploy/rotate-secret.sh github_token < FILE     also data_gov_in_api_key, discord_webhook_url,
#                                                      apprise_urls: the new value on standard input
#
# COMPOSE is the compose command if it is not `docker compose`.
set -eu
cd "$(dirname "$0")/.."
secrets=${SECRETS_FOLDER:-$(sed -n 's/^SECRETS_FOLDER=//p' .env 2>/dev/null || :)}
secrets=${secrets:-secrets}

compose() {
    ${COMPOSE:-docker compose} "$@"
}

require_own() { # NAME ADDRESS: a server of somebody else has its passwords from there
    # shellcheck disable=SC2254  # a pattern
    case $(cat "$secrets/$1") in
    $2) ;;
    *) echo "$secrets/$1 is not of this project's server; change the password there, then in it" >&2 && exit 1 ;;
    esac
}

make_anew() {
    : >"$secrets/$1"
    derive
}

derive() {
    sh deploy/make-secrets.sh "$secrets" >/dev/null
}

take() { # NAME: the old value stays until there is a new one
    new=$(cat)
    [ -n "$new" ] || { echo "nothing came on standard input; $1 stays as it is" >&2 && exit 1; }
    printf '%s' "$new" >"$secrets/$1"
}

restart_clients() {
    for service in ingest drift trainer publisher notifier beat exporter; do
        compose restart "$service"
    done
}

restart_those_who_load_models() {
    for service in drift publisher trainer; do
        compose restart "$service"
    done
}

load_redis_users() {
    # shellcheck disable=SC2016  # expanded in the container
    compose exec -T redis sh -c \
        'REDISCLI_AUTH=$(cat /run/secrets/redis_admin_password) redis-cli -e --user admin acl load'
}

case ${1:-} in
redis_password)
    require_own redis_url 'redis://trimtab:*@redis:6379/0'
    cat "$secrets/redis_password" >"$secrets/redis_password_old"
    make_anew redis_password # both are good now
    load_redis_users
    restart_clients
    compose restart flower
    : >"$secrets/redis_password_old"
    derive
    load_redis_users
    ;;
mongo_password)
    require_own mongodb_uri 'mongodb://trimtab:*@mongo:27017/*'
    # Connections that are open stay open. A new one with the old password fails, its event is
    # taken up again by the sweep.
    make_anew mongo_password
    compose exec -T mongo mongosh --quiet --norc /docker-entrypoint-initdb.d/application-user.js
    restart_clients
    ;;
model_signing_key)
    old=$(cat "$secrets/model_signing_key")
    new=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')
    # Everybody knows the new one before anybody seals with it.
    printf '%s\n%s\n' "$old" "$new" >"$secrets/model_signing_key"
    restart_those_who_load_models
    printf '%s\n%s\n' "$new" "$old" >"$secrets/model_signing_key"
    restart_those_who_load_models
    echo "the old keys are below; remove them when no model that they sealed is needed any more"
    ;;
flower_password)
    make_anew flower_password
    compose restart flower
    ;;
data_gov_in_api_key) take "$1" && compose restart ingest ;;
github_token) take "$1" && compose restart publisher ;;
discord_webhook_url | apprise_urls) take "$1" && compose restart notifier ;;
*)
    sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
