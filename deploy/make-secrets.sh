#!/bin/sh
# Makes the secrets that docker-compose.yml mounts, one file each, in the folder `secrets`.
# What is there already stays as it is, but for the files that are made of others, which follow them.
#
# Files of accounts elsewhere (GitHub, Discord, …) are made empty: write yours into them.
set -eu
umask 077
deploy=$(dirname "$0")
# shellcheck source=deploy/settings.sh
. "$deploy/settings.sh"
folder=${1:-$(setting SECRETS_FOLDER)}
folder=${folder:-secrets}

# Only their owner can enter the folder; inside, containers read the files as another user.
mkdir -p "$folder"
chmod 700 "$folder"

write() { # NAME: keeps the file itself, which a container may have mounted
    cat >"$folder/$1"
    chmod 644 "$folder/$1"
}

made_at_random() {
    [ -s "$folder/$1" ] || od -An -N24 -tx1 /dev/urandom | tr -d ' \n' | write "$1"
    [ -s "$folder/$1" ] || { echo "$folder/$1 is empty: is there no od?" >&2 && exit 1; }
}

given() {
    [ -e "$folder/$1" ] || write "$1" </dev/null
}

address() { # NAME PASSWORD TEXT: one that a person wrote, of a server elsewhere or with TLS, stays
    if [ -s "$folder/$1" ] && ! grep -qE '^[a-z]+://trimtab:[^@]*@(redis:6379/0|mongo:27017/[?]authSource=admin)$' "$folder/$1"; then
        echo "$folder/$1 stays as you wrote it" >&2
        return
    fi
    require_plain "$2"
    # shellcheck disable=SC2059  # the text has a place for the password
    printf "$3" "$(secret "$2")" | write "$1"
}

secret() {
    tr -d '\n' <"$folder/$1"
}

require_plain() { # NAME: it becomes a part of an address and of a line of the list of users
    case $(secret "$1") in
    *[!A-Za-z0-9._~-]*) echo "$folder/$1: only A-Z a-z 0-9 . _ ~ - can stand in this password" >&2 && exit 1 ;;
    esac
}

for name in redis_password redis_admin_password mongo_root_password mongo_password \
    event_key model_signing_key flower_password grafana_password; do
    made_at_random $name
done
for name in data_gov_in_api_key github_token git_signing_key discord_webhook_url apprise_urls; do
    given $name
done

# The first operator, and the list of operators. The folder's owner has the key; no worker gets it.
if [ ! -s "$folder/operators" ]; then
    command -v ssh-keygen >/dev/null ||
        { echo "ssh-keygen is missing, which makes the operator's key: install OpenSSH's client" >&2 && exit 1; }
    rm -f "$folder/operator_key.new" "$folder/operator_key.new.pub"
    ssh-keygen -q -t ed25519 -N '' -C operator -f "$folder/operator_key.new"
    write operator_key <"$folder/operator_key.new"
    name=$(id -un 2>/dev/null | tr -c 'A-Za-z0-9._@\n-' '-') # one word
    { printf '%s ' "${name:-operator}" && cut -d ' ' -f 1,2 <"$folder/operator_key.new.pub"; } | write operators
    rm "$folder/operator_key.new" "$folder/operator_key.new.pub"
fi
given operator_key

require_plain redis_password
require_plain redis_admin_password

# A password that is being replaced stands in redis_password_old until every worker has the new one.
old=$([ ! -s "$folder/redis_password_old" ] || printf ' >%s' "$(secret redis_password_old)")
write redis_users <<END
user default off
user health on nopass -@all +ping
user trimtab on >$(secret redis_password)$old ~* &* +@all -@admin -@dangerous +info
user admin on >$(secret redis_admin_password) ~* &* +@all
END
address redis_url redis_password 'redis://trimtab:%s@redis:6379/0'
address mongodb_uri mongo_password 'mongodb://trimtab:%s@mongo:27017/?authSource=admin'

# What is mounted from a clone that was made with such a umask could not be read in the containers.
for mounted in demo grafana mongo prometheus redis ../pipelines; do
    [ ! -e "$deploy/$mounted" ] || chmod -R go+rX "$deploy/$mounted" ||
        echo "$deploy/$mounted has to be readable for everybody: containers read it as other users" >&2
done

echo "secrets are in $folder; accounts elsewhere: data_gov_in_api_key, github_token, git_signing_key, discord_webhook_url, apprise_urls"
