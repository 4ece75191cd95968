// Takes the addresses where packages ask for donations out of the lock file: together with
// omit-lockfile-registry-resolved (.npmrc) it then names no host at all, and a test holds it to that.
import { readFileSync, writeFileSync } from "node:fs";

const path = new URL("package-lock.json", import.meta.url);
const lock = JSON.parse(readFileSync(path, "utf8"));
for (const entry of Object.values(lock.packages)) delete entry.funding;
writeFileSync(path, `${JSON.stringify(lock, null, 2)}\n`);
