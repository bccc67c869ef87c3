// Bundles the scripts into ../assets/dist: console.js for every page, which
// loads player.js where there is something to play.
import { rm } from "node:fs/promises";
import { build } from "esbuild";

const outdir = new URL("../assets/dist/", import.meta.url).pathname;
await rm(outdir, { recursive: true, force: true });
await build({
  entryPoints: ["src/console.ts"],
  outdir,
  bundle: true,
  splitting: true,
  format: "esm",
  target: "es2023",
  minify: true,
  chunkNames: "[name]-[hash]",
  legalComments: "linked",
  logLevel: "warning",
});
