// Run by the image at the first start: the application's own user, for its own database alone.
const password = require("fs").readFileSync("/run/secrets/mongo_password", "utf8").trim();
db.getSiblingDB("admin").createUser({
  user: "trimtab",
  pwd: password,
  roles: [{ role: "readWrite", db: process.env.MONGO_INITDB_DATABASE }],
});
