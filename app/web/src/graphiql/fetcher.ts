import { createGraphiQLFetcher, type Fetcher } from "@graphiql/toolkit";
import { getIntrospectionQuery } from "graphql";
import { createClient } from "graphql-ws";
import { authorization, currentCredential, ENDPOINT, markRefused } from "./credential";

// GraphiQL's own introspection leaves out which inputs are @oneOf, so that its editor could
// not point out `member(by: {})`. Descriptions and everything else are the same.
const INTROSPECTION = getIntrospectionQuery({
  inputValueDeprecation: true,
  oneOf: true,
  schemaDescription: true,
  specifiedByUrl: true,
});

async function fetchWithKey(url: RequestInfo | URL, init?: RequestInit): Promise<Response> {
  const { key } = currentCredential();
  const headers = new Headers(init?.headers);
  const own = headers.has("Authorization");
  if (!own) for (const [name, value] of Object.entries(authorization())) headers.set(name, value);
  const response = await fetch(url, { ...init, headers });
  if (response.status === 401 && !own) markRefused(key);
  return response;
}

const live = createGraphiQLFetcher({
  url: ENDPOINT,
  fetch: fetchWithKey,
  // Opened by the first subscription, and closed after the last: a new key is taken up then.
  wsClient: createClient({
    url: Object.assign(new URL(ENDPOINT, location.href), {
      protocol: location.protocol === "https:" ? "wss:" : "ws:",
    }).href,
    connectionParams: authorization,
    retryAttempts: 2,
  }),
});

// The documentation is the same for everybody and is read without the key: it stays there
// while a key is mistyped or has expired.
const documentation = createGraphiQLFetcher({ url: ENDPOINT });

export const fetcher: Fetcher = (params, options) =>
  params.operationName === "IntrospectionQuery" && params.query.includes("__schema")
    ? documentation({ ...params, query: INTROSPECTION }, options)
    : live(params, options);
