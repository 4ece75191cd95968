import { DOC_EXPLORER_PLUGIN } from "@graphiql/plugin-doc-explorer";
import { useGraphiQL } from "@graphiql/react";
import { useSyncExternalStore, type FormEvent } from "react";
import laurel from "../laurel.svg";
import { checkKey, currentCredential, setKey, subscribe, type Credential } from "./credential";

export function Header() {
  const docsAreOpen = useGraphiQL((state) => state.visiblePlugin === DOC_EXPLORER_PLUGIN);
  return (
    <header className="laurel-header">
      <h1>
        <img src={laurel} alt="" width="24" height="24" />
        Laurel
      </h1>
      <button
        type="button"
        className="laurel-link"
        aria-pressed={docsAreOpen}
        onClick={toggleDocs}
      >
        Documentation
      </button>
      <KeyField />
    </header>
  );
}

// Whether its side panel is folded away is known to GraphiQL's sidebar alone; the button
// there is the only way to open it.
function toggleDocs() {
  document.querySelector<HTMLElement>('.graphiql-sidebar [data-index="0"]')?.click();
}

function KeyField() {
  const credential = useSyncExternalStore(subscribe, currentCredential);
  function submit(event: FormEvent) {
    event.preventDefault();
    void checkKey();
  }
  return (
    <form className="laurel-key" onSubmit={submit} autoComplete="off">
      <label htmlFor="laurel-key">API key or member token</label>
      <input
        id="laurel-key"
        type="password"
        autoComplete="off"
        spellCheck={false}
        // Not a password: the managers that look at these attributes should not offer to keep it.
        data-1p-ignore=""
        data-lpignore="true"
        placeholder="Paste it here"
        aria-describedby="laurel-key-state"
        aria-invalid={credential.state === "refused"}
        value={credential.key}
        onChange={(event) => setKey(event.target.value)}
      />
      <output id="laurel-key-state" className="laurel-state" data-state={credential.state} title={TITLES[credential.state]}>
        {describe(credential)}
      </output>
      {credential.key !== "" && (
        <button type="button" className="laurel-link" onClick={() => setKey("")}>
          Forget
        </button>
      )}
    </form>
  );
}

function describe(credential: Credential): string {
  switch (credential.state) {
    case "none":
      return "No key";
    case "checking":
      return "Checking…";
    case "accepted":
      return credential.owner === null ? "Accepted" : `Accepted · ${credential.owner}`;
    case "refused":
      return "Refused";
    case "unknown":
      return "Not checked";
  }
}

const TITLES: Record<Credential["state"], string> = {
  none: "Without a key the documentation can be read, but nothing of a program.",
  checking: "Asking the server whether it knows the key.",
  accepted: "The server knows the key. It is kept until this browser tab is closed.",
  refused: "The server does not know the key, or it was revoked or has expired.",
  unknown: "The server did not answer, so nothing is known about the key.",
};
