// Writes a copy of the store to standard output, as a tar archive of its data files. Meanwhile writes
// wait, and reads go on:
//
//   docker compose exec -T mongo mongosh --quiet --norc /deploy/backup.js > backup.tar
const fs = require("fs");
const { spawnSync } = require("child_process");

const password = fs.readFileSync("/run/secrets/mongo_root_password", "utf8").trim();
db.getSiblingDB("admin").auth("root", password);

// One connection holds the lock from beginning to end; nobody else could sign in to release it.
db.fsyncLock();
let tar;
try {
  const left_out = ["--exclude=mongod.lock", "--exclude=diagnostic.data"];
  tar = spawnSync("tar", ["-C", "/data/db", ...left_out, "-cf", "-", "."], {
    stdio: ["ignore", "inherit", "inherit"],
  });
} finally {
  db.fsyncUnlock();
}
quit(tar.status ?? 1);
