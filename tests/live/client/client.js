// Subscribes with graphql-ws, and says in lines of JSON what it sees. A line on stdin ends it.
import { createClient } from "graphql-ws";
import WebSocket from "ws";

const { url, tokens } = JSON.parse(process.argv[2]);
const say = (...what) => console.log(JSON.stringify(what));

let turn = 0;
const client = createClient({
  url,
  webSocketImpl: WebSocket,
  retryAttempts: 3,
  retryWait: async () => {},
  // Each connection signs in with the next token, as one that fetches a fresh token does.
  connectionParams: () => ({ Authorization: `Bearer ${tokens[Math.min(turn++, tokens.length - 1)]}` }),
  on: { closed: (event) => say("closed", event.code, event.reason) },
});

const once = async (query) => (await client.iterate({ query }).next()).value;
const failed = (query) => once(query).then(() => "no error", (errors) => errors[0].extensions.code);

async function follow(name, query) {
  for await (const { data } of client.iterate({ query })) say(name, data[name]);
  say(name, "complete");
}

const following = follow("balance", "subscription { balance { available } }");
say("query", (await once("{ viewer { externalId } }")).data);
say("syntax", await failed("subscription { balance {"));
say("forbidden", await failed('subscription { job(id: "x") { id } }'));
process.stdin.once("data", () => void client.dispose());
await following.catch((error) => say("error", String(error)));
process.exit(0);
