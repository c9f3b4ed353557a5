#!/bin/sh
# Replaces a secret while the system runs: what is under way goes on, and what is queued waits.
#
#   sh deploy/rotate-secret.sh redis_password | mongo_password      of every service at once
#   sh deploy/rotate-secret.sh flower_password | event_key | model_signing_key
#   sh deploy/rotate-secret.sh github_token < FILE     also git_signing_key, data_gov_in_api_key,
#                                                      discord_webhook_url, apprise_urls: the new value
#                                                      on standard input
#
# One that was interrupted is run again. COMPOSE is the compose command if it is not `docker compose`.
set -eu
cd "$(dirname "$0")/.."
# shellcheck source=deploy/settings.sh
. deploy/settings.sh
secrets=$(setting SECRETS_FOLDER)
secrets=${secrets:-secrets}

compose() {
    ${COMPOSE:-docker compose} "$@"
}

require_own() { # NAME: a server of somebody else has its passwords from there
    [ -s "$secrets/$1" ] || return 0
    echo "$secrets/$1 is not of this project's server; change the password there, then in it" >&2
    exit 1
}

empty_all() { # NAME: what is empty is made anew
    for file in "$secrets/$1"_*; do
        case $(cat "$file") in
        *@redis:6379/0 | *@mongo:27017/*) : >"$file" ;;
        esac
    done
}

passwords() { # each user of the broker and its password
    sed -n 's|^redis://\([a-z]*\):\(.*\)@redis:6379/0$|\1 \2|p' "$secrets"/redis_url_*
}

make_anew() {
    derive # what cannot be done is said before anything is changed
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
    # OpenSSH takes no key without its last line break.
    [ "$1" != git_signing_key ] || echo >>"$secrets/$1"
}

restart_clients() {
    for service in ingest drift trainer publisher notifier beat exporter; do
        compose restart "$service"
    done
}

restart_those_who_act() {
    for service in ingest drift trainer publisher notifier beat; do
        compose restart "$service"
    done
}

replace_key() { # NAME RESTART: everybody knows the new key before anybody uses it
    old=$(cat "$secrets/$1")
    new=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')
    printf '%s\n%s\n' "$old" "$new" >"$secrets/$1"
    "$2"
    wait_for_further_hosts "$1"
    printf '%s\n%s\n' "$new" "$old" >"$secrets/$1"
    "$2"
}

restart_those_who_load_models() {
    for service in drift publisher trainer; do
        compose restart "$service"
    done
}

wait_for_further_hosts() { # NAME: they have to know a new secret before the old one goes
    [ -n "$(setting SERVERS_ADDRESS)" ] || return 0
    echo "Bring every further host's $1 up to that in $secrets (with the address that it has there)," \
        "restart its workers, then press Enter." >&2
    read -r _ || { echo "nobody pressed Enter; run this again" >&2 && exit 1; }
}

load_redis_users() {
    # shellcheck disable=SC2016  # expanded in the container
    compose exec -T redis sh -c \
        'REDISCLI_AUTH=$(cat /run/secrets/redis_admin_password) redis-cli -e --user admin acl load'
}

case ${1:-} in
redis_password)
    require_own redis_url
    derive # what cannot be done is said before anything is changed
    if [ -s "$secrets/redis_passwords_old" ]; then
        echo "an interrupted run goes on with its new passwords" >&2
    else
        passwords >"$secrets/redis_passwords_old"
    fi
    if [ "$(passwords)" = "$(cat "$secrets/redis_passwords_old")" ]; then
        empty_all redis_url
    fi
    derive # both are good now
    load_redis_users
    restart_clients
    compose restart flower
    wait_for_further_hosts redis_url_SERVICE
    : >"$secrets/redis_passwords_old"
    derive
    load_redis_users
    ;;
mongo_password)
    require_own mongodb_uri
    # Connections that are open stay open. A new one with the old password fails, its event is
    # taken up again by the sweep.
    derive
    empty_all mongodb_uri
    derive
    compose exec -T mongo mongosh --quiet --norc /docker-entrypoint-initdb.d/users.js
    restart_clients
    [ -z "$(setting SERVERS_ADDRESS)" ] || echo "bring every further host's mongodb_uri_SERVICE up to that in $secrets, and restart its workers" >&2
    ;;
event_key)
    replace_key event_key restart_those_who_act
    echo "the old keys are below; remove them when no record that they authenticated is kept any more"
    ;;
model_signing_key)
    replace_key model_signing_key restart_those_who_load_models
    echo "the old keys are below; remove them when no model that they sealed is needed any more"
    ;;
flower_password)
    make_anew flower_password
    compose restart flower
    ;;
data_gov_in_api_key) take "$1" && compose restart ingest ;;
github_token | git_signing_key) take "$1" && compose restart publisher ;;
discord_webhook_url | apprise_urls) take "$1" && compose restart notifier ;;
*)
    sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
