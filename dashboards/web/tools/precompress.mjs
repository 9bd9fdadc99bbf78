/** Writes `.gz` and `.br` beside every built file, and holds the whole page to its budget. */

import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";

const DIST = "dist";
/** All that a first visit fetches, with gzip. */
const GZIP_BYTES_MAX = 120 * 1024;

let [sum, brotliSum] = [0, 0];
const names = readdirSync(DIST, { recursive: true, withFileTypes: true })
  .filter((entry) => entry.isFile() && !/^\.|\.(gz|br)$/.test(entry.name))
  .map((entry) => join(entry.parentPath, entry.name))
  .sort();
for (const name of names) {
  const bytes = readFileSync(name);
  const gzip = gzipSync(bytes, { level: 9 });
  const brotli = brotliCompressSync(bytes, { params: { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length } });
  writeFileSync(`${name}.gz`, gzip);
  writeFileSync(`${name}.br`, brotli);
  sum += gzip.length;
  brotliSum += brotli.length;
  console.log(`${name.padEnd(40)} ${String(bytes.length).padStart(8)}  gzip ${String(gzip.length).padStart(7)}  brotli ${String(brotli.length).padStart(7)}`);
}
// The folder is there in a fresh checkout, so that a build of the gateway sees when something comes into it.
writeFileSync(join(DIST, ".gitignore"), "*\n!.gitignore\n");
console.log(`in all: gzip ${sum}, brotli ${brotliSum} bytes, of ${GZIP_BYTES_MAX}`);
if (sum > GZIP_BYTES_MAX) {
  console.error("the page is larger than its budget");
  process.exitCode = 1;
}
