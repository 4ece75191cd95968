// The one place that knows the visitor's key. It lives in sessionStorage, so that it ends
// with the browser tab, and leaves this page in an Authorization header only.

export type Credential =
  | { key: ""; state: "none" }
  | { key: string; state: "checking" | "refused" | "unknown" }
  | { key: string; state: "accepted"; owner: string | null };

/** The GraphQL endpoint is where this page is; under `npm run dev` the page is elsewhere. */
export const ENDPOINT = import.meta.env.DEV ? "/graphql" : location.pathname;

const STORAGE_KEY = "laurel.key";
const QUIET_MS = 300;

let credential: Credential = start(sessionStorage.getItem(STORAGE_KEY) ?? "");
let timer: number | undefined;
const listeners = new Set<() => void>();

function start(key: string): Credential {
  return key === "" ? { key: "", state: "none" } : { key, state: "checking" };
}

function publish(next: Credential): void {
  credential = next;
  for (const listener of listeners) listener();
}

export function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export function currentCredential(): Credential {
  return credential;
}

/** Take over what was typed or pasted; a copied "Bearer " in front does no harm. */
export function setKey(text: string): void {
  const key = text.trim().replace(/^bearer\s+/i, "");
  if (key === credential.key) return;
  if (key === "") sessionStorage.removeItem(STORAGE_KEY);
  else sessionStorage.setItem(STORAGE_KEY, key);
  publish(start(key));
  clearTimeout(timer);
  if (key !== "") timer = window.setTimeout(() => void checkKey(), QUIET_MS);
}

/** Take `#key=…` from the address and out of it: fragments are never sent to a server or logged. */
export function takeKeyFromAddress(): void {
  const fragment = new URLSearchParams(location.hash.slice(1));
  const key = fragment.get("key");
  if (key === null) return;
  history.replaceState(null, "", location.pathname + location.search);
  // URLSearchParams reads "+" as a space, which no key contains.
  setKey(key.replaceAll(" ", "+"));
}

/** Header of the key at hand; empty without one, or with one that no header could carry. */
export function authorization(): Record<string, string> {
  return isSendable(credential.key) ? { Authorization: `Bearer ${credential.key}` } : {};
}

function isSendable(key: string): boolean {
  return /^[\x21-\x7e]+$/.test(key);
}

/** Note that the server turned the key down in the middle of the work: it was revoked or has expired. */
export function markRefused(key: string): void {
  if (key !== "" && key === credential.key) publish({ key, state: "refused" });
}

/** Ask the server whether it knows the key, and whose it is. */
export async function checkKey(): Promise<void> {
  const { key } = credential;
  if (key === "") return;
  const next = isSendable(key) ? await ask(key) : ({ key, state: "refused" } as const);
  // The answer may be about a key that has been replaced in the meantime.
  if (key === credential.key) publish(next);
}

async function ask(key: string): Promise<Credential> {
  try {
    const response = await fetch(ENDPOINT, {
      method: "POST",
      headers: {
        Accept: "application/graphql-response+json, application/json",
        "Content-Type": "application/json",
        ...authorization(),
      },
      body: JSON.stringify({ query: "{ __typename program { name } viewer { name externalId } }" }),
    });
    if (response.status === 401) return { key, state: "refused" };
    if (!response.ok) return { key, state: "unknown" };
    // What the key may not see is null here and says nothing against the key.
    const { data } = (await response.json()) as {
      data?: {
        program?: { name?: string } | null;
        viewer?: { name?: string | null; externalId?: string } | null;
      } | null;
    };
    const owner = data?.viewer?.name ?? data?.viewer?.externalId ?? data?.program?.name ?? null;
    return { key, state: "accepted", owner };
  } catch {
    return { key, state: "unknown" };
  }
}
