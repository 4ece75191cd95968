import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { defineConfig } from "vite";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));

// One page for each folder of src/ that has an index.html.
const pages = Object.fromEntries(
  readdirSync(here("src"), { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile() && entry.name === "index.html")
    .map((entry) => join(entry.parentPath, entry.name))
    .map((path) => [relative(here("src"), dirname(path)), path]),
);

// The server hands out these copies as they are: the editor is four times smaller on the
// wire, and no request pays for squeezing it.
function gzipped() {
  return {
    name: "laurel-gzip",
    apply: "build",
    writeBundle(options, bundle) {
      for (const name of Object.keys(bundle)) {
        if (!/\.(css|js|svg)$/.test(name)) continue;
        const path = `${options.dir}/${name}`;
        writeFileSync(`${path}.gz`, gzipSync(readFileSync(path), { level: 9 }));
      }
    },
  };
}

export default defineConfig({
  root: here("src"),
  base: "/web/",
  publicDir: false,
  build: {
    outDir: here("dist"),
    emptyOutDir: true,
    target: "es2022",
    // Nothing inline: the pages are served under a policy that allows files of our own only.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
    // The editor is one file of about 3 MB, and meant to be.
    chunkSizeWarningLimit: 5000,
    rollupOptions: {
      input: pages,
      onwarn(warning, warn) {
        // "use client" means something to servers that render React; there is none here.
        if (warning.code !== "MODULE_LEVEL_DIRECTIVE") warn(warning);
      },
    },
  },
  // GraphiQL reports every worker that it starts.
  esbuild: { pure: ["console.info"] },
  worker: { format: "es" },
  plugins: [gzipped()],
  server: {
    // `npm run dev` beside a running Laurel: http://localhost:5173/web/graphiql/
    proxy: { "/graphql": { target: "http://127.0.0.1:8000", ws: true } },
  },
});
