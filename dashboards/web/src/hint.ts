/** What the page says where there is nothing to see, and why. */

import { FIRST_SYMBOLS, type Health, type Looking } from "./messages.js";

/** Feeds of a gateway that bring nothing: their names, comma-separated. */
export interface Silent {
  down: string;
  stale: string;
}

/** Which of the feeds bring nothing. */
export function silent(feeds: Health["feeds"]): Silent {
  const names = (wanted: string): string => feeds.filter(({ state }) => state === wanted).map(({ name }) => name).join(", ");
  return { down: names("down"), stale: names("stale") };
}

/** What to say of feeds that bring nothing; "" where all do. */
export function feedHint({ down, stale }: Silent): string {
  const parts: string[] = [];
  if (down !== "") parts.push(`The gateway's feed ${down} is down: no broker answers the gateway, which goes on trying.`);
  if (stale !== "") parts.push(`The gateway's feed ${stale} is stale: no record has come of it for longer than it should take.`);
  return parts.join(" ");
}

/** What the watchlist says above its rows; "" where these say enough. */
export function watchHint(connection: Health["state"], feeds: Silent, looking: Looking, isEmpty: boolean): string {
  const isLive = connection === "live" || connection === "degraded";
  if (!isEmpty) return isLive && feeds.down !== "" ? feedHint({ ...feeds, stale: "" }) : "";
  if (connection === "connecting") return "Connecting to the gateway…";
  if (connection === "closed") return "Not connected. The notices say why.";
  if (!isLive) return "The connection is lost. The page connects again by itself…";
  const trouble = feedHint(feeds);
  if (trouble !== "") return `${trouble} Symbols show up here when records come.`;
  if (looking === "begun") return `Looking for symbols: in two seconds the ${FIRST_SYMBOLS} of which most comes are shown…`;
  if (looking === "waiting") return "No record has come so far. Symbols show up here when one does. Or press / and type one.";
  if (looking === "refused") return "This gateway does not tell you which symbols there are. Press / and type one.";
  return "No symbols in the watchlist. Press / to look for some.";
}
