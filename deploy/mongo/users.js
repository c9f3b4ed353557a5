// A user for each service, with the rights of rights.json in the application's database and the
// password that the secret mongo_users holds. The image runs this at its first start. Run again, it
// brings users, rights and passwords up to date, and removes the one user of earlier versions.
const fs = require("fs");
const secret = (name) => fs.readFileSync(`/run/secrets/${name}`, "utf8").trim();
const rights = JSON.parse(fs.readFileSync("/docker-entrypoint-initdb.d/rights.json", "utf8"));

const admin = db.getSiblingDB("admin");
admin.auth("root", secret("mongo_root_password"));

for (const line of secret("mongo_users").split("\n").filter(Boolean)) {
  const [service, password] = line.split(" ");
  const privileges = Object.entries(rights[service]).map(([collection, actions]) => ({
    resource: { db: process.env.TRIMTAB_DATABASE, collection },
    actions,
  }));
  if (admin.getRole(service)) {
    admin.updateRole(service, { privileges, roles: [] });
  } else {
    admin.createRole({ role: service, privileges, roles: [] });
  }
  if (admin.getUser(service)) {
    admin.updateUser(service, { pwd: password, roles: [service] });
  } else {
    admin.createUser({ user: service, pwd: password, roles: [service] });
  }
}
if (admin.getUser("trimtab")) {
  admin.dropUser("trimtab");
}
