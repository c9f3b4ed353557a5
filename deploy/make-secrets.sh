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

random() {
    od -An -N24 -tx1 /dev/urandom | tr -d ' \n'
}

made_at_random() {
    [ -s "$folder/$1" ] || random | write "$1"
    [ -s "$folder/$1" ] || { echo "$folder/$1 is empty: is there no od?" >&2 && exit 1; }
}

given() {
    [ -e "$folder/$1" ] || write "$1" </dev/null
}

address() { # NAME USER SCHEME PLACE: a user's own, unless a person wrote another
    file=$1_$2
    if [ -s "$folder/$1" ]; then # a server elsewhere, with one address for all
        write "$file" <"$folder/$1"
        return
    fi
    if [ ! -s "$folder/$file" ]; then
        printf '%s://%s:%s@%s' "$3" "$2" "$(random)" "$4" | write "$file"
    elif [ -z "$(password "$@")" ]; then
        echo "$folder/$file stays as you wrote it" >&2
        return
    fi
    case $(password "$@") in
    *[!A-Za-z0-9._~-]*) echo "$folder/$file: only A-Z a-z 0-9 . _ ~ - can stand in this password" >&2 && exit 1 ;;
    esac
}

password() { # NAME USER SCHEME PLACE: nothing if the address is of another server
    sed -n "s|^$3://$2:\\(.*\\)@$4\$|\\1|p" "$folder/$1_$2"
}

secret() {
    tr -d '\n' <"$folder/$1"
}

require_plain() { # NAME: it becomes a part of a line of the list of users
    case $(secret "$1") in
    *[!A-Za-z0-9._~-]*) echo "$folder/$1: only A-Z a-z 0-9 . _ ~ - can stand in this password" >&2 && exit 1 ;;
    esac
}

for name in redis_admin_password redis_password_keda mongo_root_password \
    event_key model_signing_key flower_password grafana_password; do
    made_at_random $name
done
for name in redis_url mongodb_uri data_gov_in_api_key github_token git_signing_key discord_webhook_url apprise_urls; do
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

# Versions with one user for all made these of it. A person's address of another server stays.
for file in redis_url mongodb_uri; do
    case $(secret $file) in
    redis://trimtab:*@redis:6379/0 | mongodb://trimtab:*@mongo:27017/\?authSource=admin) write $file </dev/null ;;
    esac
done
rm -f "$folder/redis_password" "$folder/redis_password_old" "$folder/mongo_password"

require_plain redis_admin_password
require_plain redis_password_keda

redis=redis:6379/0
mongo='mongo:27017/?authSource=admin'
broker_users=$(sed 's/ .*//' "$deploy/redis/rights.acl")
store_users=$(sed -n 's/^ "\([a-z]*\)": {$/\1/p' "$deploy/mongo/rights.json")
for user in $broker_users; do
    [ "$user" = keda ] || address redis_url "$user" redis "$redis"
done
for user in $store_users; do
    address mongodb_uri "$user" mongodb "$mongo"
done

# What every key of the broker begins with, as the workers' settings have it.
prefix=$(setting REDIS_KEY_PREFIX)
database=$(setting MONGODB_DATABASE)
prefix=${prefix:-${database:-drift_detection}:}
case $prefix in
*[!A-Za-z0-9_.:-]*) echo "set REDIS_KEY_PREFIX: MONGODB_DATABASE has other characters than A-Z a-z 0-9 _ . : -" >&2 && exit 1 ;;
esac

redis_user() { # USER RULES: with the old password as well while that is being replaced
    if [ "$1" = keda ]; then
        found=$(secret redis_password_keda)
    else
        found=$(password redis_url "$1" redis "$redis")
    fi
    [ -n "$found" ] || return 0 # its server is elsewhere
    old=
    [ ! -s "$folder/redis_passwords_old" ] || old=$(sed -n "s/^$1 / >/p" "$folder/redis_passwords_old")
    echo "user $1 on >$found$old $(echo "$2" | sed "s/PREFIX/$prefix/g")"
}

{
    echo "user default off"
    echo "user health on nopass -@all +ping"
    while read -r user rules; do
        redis_user "$user" "$rules"
    done <"$deploy/redis/rights.acl"
    echo "user admin on >$(secret redis_admin_password) ~* &* +@all"
} | write redis_users

for user in $store_users; do
    found=$(password mongodb_uri "$user" mongodb "$mongo")
    [ -z "$found" ] || echo "$user $found"
done | write mongo_users

# What is mounted from a clone that was made with such a umask could not be read in the containers.
for mounted in demo grafana mongo prometheus redis ../pipelines; do
    [ ! -e "$deploy/$mounted" ] || chmod -R go+rX "$deploy/$mounted" ||
        echo "$deploy/$mounted has to be readable for everybody: containers read it as other users" >&2
done

echo "secrets are in $folder; accounts elsewhere: data_gov_in_api_key, github_token, git_signing_key, discord_webhook_url, apprise_urls"
