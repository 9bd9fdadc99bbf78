/**
 * The pictures of the live page in the README: `npm run build`, `npm test` once, and then
 *
 *     node tools/pictures.mjs ../previews
 *
 * The market is that of `tickgate demo`, at 5,000 ticks a second, watched for a minute, and half a minute more as a slow client. Those in the repository
 * have a palette of 128 colours, which makes them a quarter of the size.
 */

import { join } from "node:path";
import { Stage, until } from "../../../clients/typescript/build/test/support/programs.js";
import { isEmbedded, launch } from "../test/browser.mjs";
import { PageServer } from "../test/serve.mjs";

const SYMBOLS = "AAPL,MSFT,NVDA,AMZN,GOOGL,META,TSLA,AVGO,JPM,LLY,UNH,XOM,V,MA,COST,HD,PG,JNJ,NFLX,CRM,AMD,BAC,KO,ORCL,ADBE,INTC,DIS";
const [dir = "."] = process.argv.slice(2);
const stage = await Stage.start(["ticks:4"]);
const browser = await launch();
try {
  stage.run("tickgate-sim", ["run", "--model", "us-equities", "--symbols", "500", "--rate", "5000", "--brokers", stage.broker, "--topic", "ticks", "--partitions", "0"]);
  const gateway = await stage.gateway();
  const server = (await isEmbedded(gateway.address)) ? undefined : await PageServer.start(gateway.address);
  const page = await browser.newPage({ viewport: { width: 1400, height: 900 }, colorScheme: "dark" });
  await page.goto(`${server?.url ?? `http://${gateway.address}/`}#s=${SYMBOLS}`);
  const points = () => page.evaluate(() => Number(document.querySelector("#candles")?.getAttribute("data-count")));
  await until(async () => (await points()) > 20, "candles");
  const candles = async (/** @type {number} */ count) => {
    while ((await points()) < count) await page.waitForTimeout(250);
  };
  await candles(60);
  await page.screenshot({ path: join(dir, "live-dark.png") });
  await page.keyboard.press("t");
  await candles(62);
  await page.screenshot({ path: join(dir, "live-light.png") });
  await page.keyboard.press("t");
  await page.keyboard.press("s");
  await page.waitForSelector("#notices .slow");
  // Long enough for both plots to show what became of it.
  await page.waitForTimeout(30_000);
  await page.screenshot({ path: join(dir, "live-slow.png") });
  server?.close();
} finally {
  await browser.close();
  await stage.end();
}
