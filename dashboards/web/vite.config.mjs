import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";

export default defineConfig({
  // Wherever it is served: nothing of it names a root.
  base: "./",
  resolve: { alias: { tickgate: fileURLToPath(new URL("../../clients/typescript/src/index.ts", import.meta.url)) } },
  build: {
    target: "es2022",
    // Nothing may be inline: the page's policy forbids it.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    cssCodeSplit: false,
    reportCompressedSize: false,
  },
  worker: { format: "es" },
});
