#!/bin/sh
# Writes a copy of the store to standard output, as a tar archive of its data files. Meanwhile writes
# wait, and reads go on: docker compose exec -T mongo sh /deploy/backup.sh > backup.tar
set -eu

mongo() { # FUNCTION: called as the root user
    mongosh --quiet --norc --eval '
        const password = require("fs").readFileSync("/run/secrets/mongo_root_password", "utf8").trim();
        db.getSiblingDB("admin").auth("root", password);
        '"$1" >&2
}

trap 'mongo "db.fsyncUnlock()"' EXIT
mongo 'db.fsyncLock()'
tar -C /data/db --exclude=mongod.lock --exclude=diagnostic.data -cf - .
