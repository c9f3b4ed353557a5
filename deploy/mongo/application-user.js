// The application's own user, for its own database alone. The image runs this at its first start;
// run again, it gives the user the password that the secret holds now.
const secret = (name) => require("fs").readFileSync(`/run/secrets/${name}`, "utf8").trim();

const admin = db.getSiblingDB("admin");
admin.auth("root", secret("mongo_root_password"));

const user = {
  pwd: secret("mongo_password"),
  roles: [{ role: "readWrite", db: process.env.TRIMTAB_DATABASE }],
};
if (admin.getUser("trimtab")) {
  admin.updateUser("trimtab", user);
} else {
  admin.createUser({ user: "trimtab", ...user });
}
