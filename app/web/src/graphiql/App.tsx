import "graphiql/setup-workers/vite";
import { DOC_EXPLORER_PLUGIN, DocExplorerStore } from "@graphiql/plugin-doc-explorer";
import { HISTORY_PLUGIN, HistoryStore } from "@graphiql/plugin-history";
import { GraphiQLProvider, useGraphiQL } from "@graphiql/react";
import { GraphiQL, GraphiQLInterface } from "graphiql";
import { useEffect } from "react";
import { createRoot } from "react-dom/client";
// These four and not graphiql/style.css, which carries 400 KB of web fonts inside.
import "@graphiql/react/style.css";
import "@graphiql/plugin-doc-explorer/style.css";
import "@graphiql/plugin-history/style.css";
import "graphiql/graphiql.css";
import "./theme.css";
import { checkKey } from "./credential";
import { fetcher } from "./fetcher";
import { Header } from "./Header";
import { READY_QUERIES } from "./queries";

// The order is that of the sidebar; the header counts on the documentation being first.
const PLUGINS = [DOC_EXPLORER_PLUGIN, HISTORY_PLUGIN];

function App() {
  return (
    <GraphiQLProvider
      fetcher={fetcher}
      plugins={PLUGINS}
      referencePlugin={DOC_EXPLORER_PLUGIN}
      defaultTabs={READY_QUERIES}
      // Headers may hold a key, and what GraphiQL persists lies in localStorage for good.
      shouldPersistHeaders={false}
    >
      <HistoryStore>
        <DocExplorerStore>
          <Header />
          <WrappedLines />
          <main>
            <GraphiQLInterface defaultEditorToolsVisibility="variables" showPersistHeadersSettings={false}>
              <GraphiQL.Logo>{null}</GraphiQL.Logo>
            </GraphiQLInterface>
          </main>
        </DocExplorerStore>
      </HistoryStore>
    </GraphiQLProvider>
  );
}

/** Lets the editors wrap long lines: the comments of the ready queries are there to be read. */
function WrappedLines() {
  const queryEditor = useGraphiQL((state) => state.queryEditor);
  const responseEditor = useGraphiQL((state) => state.responseEditor);
  useEffect(() => queryEditor?.updateOptions({ wordWrap: "on" }), [queryEditor]);
  useEffect(() => responseEditor?.updateOptions({ wordWrap: "on" }), [responseEditor]);
  return null;
}

export function start(root: HTMLElement): void {
  createRoot(root).render(<App />);
  void checkKey();
}
